"""Emu's prompts: images between ``[IMG]`` and ``[/IMG]``."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation

from .base import Piece
from .delimited import DelimitedTemplate, Marks


@CHAT_TEMPLATES.register_module(name="emu")
class EmuTemplate(DelimitedTemplate):
    """``[USER]: [IMG]image[/IMG]{question} [ASSISTANT]: {answer}</s>``.

    The marks around an image are never trained as text, also inside answers.
    """

    name = "emu"
    frame_tokens = ("[USER]", "[ASSISTANT]", "[IMG]", "[/IMG]")
    marks = Marks(
        user_open="[USER]: ",
        user_close=" ",
        answer_open="[ASSISTANT]:",
        answer_lead=" ",
        end_mark="</s>",
        system_close=" ",
    )

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of the whole conversation, in order."""
        pieces = []
        for piece in super().render(
            conversation, add_generation_prompt=add_generation_prompt
        ):
            if piece.image is None:
                pieces.append(piece)
            else:
                pieces += [Piece("[IMG]"), piece, Piece("[/IMG]")]
        return pieces


@CHAT_TEMPLATES.register_module(name="emu_plain")
class EmuPlainTemplate(EmuTemplate):
    """``[IMG]image[/IMG]{caption}</s>``: pretraining, without speakers."""

    name = "emu_plain"
    frame_tokens = ("[IMG]", "[/IMG]")
    marks = Marks(user_open="", user_close="", answer_open="", end_mark="</s>")
