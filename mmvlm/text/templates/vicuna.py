"""Vicuna v1 as LLaVA writes it."""

from __future__ import annotations

from dataclasses import replace

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks

_SYSTEM = (
    "A chat between a curious {who} and an artificial intelligence assistant. The "
    "assistant gives helpful, detailed, and polite answers to the {who}'s questions."
)
SYSTEM_USER = _SYSTEM.format(who="user")
SYSTEM_HUMAN = _SYSTEM.format(who="human")
#: The missing space after "language." is part of the format.
SYSTEM_TAGGED = (
    "A chat between a curious user and an artificial intelligence assistant. The "
    "assistant is able to understand the visual content that the user provides, and "
    "assist the user with a variety of tasks using natural language.The visual "
    "content will be provided with the following format: "
    "<Image>visual content</Image>."
)


@CHAT_TEMPLATES.register_module(name=["vicuna_v1", "v1"])
class VicunaTemplate(DelimitedTemplate):
    """``{system} USER: {question} ASSISTANT: {answer}</s>``."""

    name = "vicuna_v1"
    llava_version = "v1"
    marks = Marks(
        user_open="USER: ",
        user_close=" ",
        answer_open="ASSISTANT:",
        answer_lead=" ",
        end_mark="</s>",
        system=SYSTEM_USER,
        system_close=" ",
    )


@CHAT_TEMPLATES.register_module(name="llava_v1")
class LLaVAv1Template(VicunaTemplate):
    """Vicuna v1 whose system text says "human"."""

    name = "llava_v1"
    marks = replace(VicunaTemplate.marks, system=SYSTEM_HUMAN)


@CHAT_TEMPLATES.register_module(name="v1_mmtag")
class TaggedVicunaTemplate(VicunaTemplate):
    """Vicuna v1 with ``<Image>`` and ``</Image>`` around every image."""

    name = "v1_mmtag"
    marks = replace(VicunaTemplate.marks, system=SYSTEM_TAGGED)
    image_marks = ("<Image>", "</Image>")
