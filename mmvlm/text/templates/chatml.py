"""ChatML and its relatives: Qwen, MPT, LLaVA's ``chatml_direct``."""

from __future__ import annotations

from dataclasses import replace

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks


@CHAT_TEMPLATES.register_module(name="chatml")
class ChatMLTemplate(DelimitedTemplate):
    r"""``<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n...``."""

    name = "chatml"
    frame_tokens = ("<|im_start|>",)
    marks = Marks(
        user_open="<|im_start|>user\n",
        user_close="<|im_end|>\n",
        answer_open="<|im_start|>assistant\n",
        end_mark="<|im_end|>",
        answer_close="\n",
        system_open="<|im_start|>system\n",
        system_close="<|im_end|>\n",
    )


@CHAT_TEMPLATES.register_module(name="qwen")
class QwenTemplate(ChatMLTemplate):
    """ChatML with Qwen's system text."""

    name = "qwen"
    marks = replace(ChatMLTemplate.marks, system="You are a helpful assistant.")


@CHAT_TEMPLATES.register_module(name="mpt")
class MPTTemplate(DelimitedTemplate):
    """MPT: ChatML without line breaks between turns."""

    name = "mpt"
    llava_version = "mpt"
    frame_tokens = ("<|im_start|>",)
    marks = replace(
        ChatMLTemplate.marks,
        user_close="<|im_end|>",
        answer_close="",
        system_close="<|im_end|>",
        system=(
            "A conversation between a user and an LLM-based AI assistant. The "
            "assistant gives helpful and honest answers."
        ),
    )


@CHAT_TEMPLATES.register_module(name=["chatml_direct", "mistral_direct"])
class DirectChatMLTemplate(MPTTemplate):
    """MPT's format with a short system text."""

    name = "chatml_direct"
    marks = replace(MPTTemplate.marks, system="Answer the questions.")
