"""Llama-2 chat, with LLaVA's variants."""

from __future__ import annotations

from dataclasses import replace

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks

SYSTEM_LLAMA_2 = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully "
    "as possible, while being safe.  Your answers should not include any harmful, "
    "unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure "
    "that your responses are socially unbiased and positive in nature.\n\nIf a "
    "question does not make any sense, or is not factually coherent, explain why "
    "instead of answering something not correct. If you don't know the answer to a "
    "question, please don't share false information."
)
SYSTEM_LLAVA = (
    "You are a helpful language and vision assistant. You are able to understand the "
    "visual content that the user provides, and assist the user with a variety of "
    "tasks using natural language."
)


@CHAT_TEMPLATES.register_module(name=["llama_2", "llama-2"])
class Llama2Template(DelimitedTemplate):
    """``[INST] {system block}{question} [/INST] {answer} </s><s>[INST] ...``."""

    name = "llama_2"
    llava_version = "llama_2"
    frame_tokens = ("<s>",)
    marks = Marks(
        user_open="[INST] ",
        user_close=" [/INST]",
        answer_open="",
        answer_lead=" ",
        end_mark=" </s>",
        between="<s>",
        system=SYSTEM_LLAMA_2,
        system_open="<<SYS>>\n",
        system_close="\n<</SYS>>\n\n",
        system_in_user=True,
    )


@CHAT_TEMPLATES.register_module(name="llava_llama_2")
class LLaVALlama2Template(Llama2Template):
    """Llama-2 chat with LLaVA's system text."""

    name = "llava_llama_2"
    marks = replace(Llama2Template.marks, system=SYSTEM_LLAVA)


@CHAT_TEMPLATES.register_module(name="mistral_instruct")
class MistralInstructTemplate(Llama2Template):
    """LLaVA's Mistral: Llama-2 chat, no system text, no ``<s>`` between rounds."""

    name = "mistral_instruct"
    frame_tokens = ()
    marks = replace(Llama2Template.marks, system="", between="")
