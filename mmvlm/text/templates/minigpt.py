"""MiniGPT-4's and MiniGPT-v2's prompts."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation

from .base import Piece
from .delimited import DelimitedTemplate, Marks
from .mistral import MistralTemplate

_OPEN, _CLOSE = "<Img>", "</Img>"


class _ImgTemplate(DelimitedTemplate):
    """Images stand between ``<Img>`` and ``</Img>``, written as text."""

    image_marks = (_OPEN, _CLOSE)


@CHAT_TEMPLATES.register_module(name="minigpt4")
class MiniGPT4Template(_ImgTemplate):
    """``###Human: <Img>image</Img> {question} ###Assistant: {answer}###``."""

    name = "minigpt4"
    end_is_token = False
    marks = Marks(
        user_open="Human: ",
        user_close=" ",
        answer_open="###Assistant:",
        answer_lead=" ",
        end_mark="###",
        system_close="###",
    )

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces; without a system text the marks open the prompt."""
        pieces = super().render(
            conversation, add_generation_prompt=add_generation_prompt
        )
        opens = pieces[0].text.startswith(self.table.user_open)
        return [Piece("###"), *pieces] if opens else pieces


@CHAT_TEMPLATES.register_module(name="minigpt_v2")
class MiniGPTv2Template(_ImgTemplate):
    """``[INST] <Img>image</Img> [task] {question} [/INST] {answer}</s>``."""

    name = "minigpt_v2"
    marks = MistralTemplate.marks
