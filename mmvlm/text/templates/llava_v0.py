"""LLaVA's first template, kept for models that were trained with it."""

from __future__ import annotations

from dataclasses import replace

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks
from .vicuna import SYSTEM_HUMAN, SYSTEM_TAGGED


@CHAT_TEMPLATES.register_module(name=["llava_v0", "v0"])
class LLaVAv0Template(DelimitedTemplate):
    r"""``{system}\n\n### Human: {question}\n### Assistant: {answer}\n### ``.

    Speakers may come in any order. The string is the one that LLaVA trains on.
    """

    name = "llava_v0"
    llava_version = "v0"
    end_is_token = False
    alternates = False
    marks = Marks(
        user_open=" Human: ",
        user_close="\n###",
        answer_open=" Assistant:",
        answer_lead=" ",
        end_mark="\n###",
        finish=" ",
        system=SYSTEM_HUMAN,
        system_close="\n\n###",
    )


@CHAT_TEMPLATES.register_module(name="v0_mmtag")
class TaggedLLaVAv0Template(LLaVAv0Template):
    """The same with ``<Image>`` and ``</Image>`` around every image."""

    name = "v0_mmtag"
    marks = replace(LLaVAv0Template.marks, system=SYSTEM_TAGGED)
    image_marks = ("<Image>", "</Image>")
