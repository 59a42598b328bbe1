"""InstructBLIP's prompt: the image, then the bare instruction."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation, Image, Text, Turn

from .base import (
    ChatTemplate,
    Piece,
    PieceBuilder,
    check_alternation,
    split_system,
    write_parts,
)


@CHAT_TEMPLATES.register_module(name="instructblip")
class InstructBLIPTemplate(ChatTemplate):
    """Images, EOS, ``{instruction} {answer}``, EOS; no roles, no system.

    The tokens of the images come first and the token that opens the text behind
    them is the EOS, as in LAVIS, which makes ``</s>`` the beginning of text too.
    Further turns follow in the same way.

    Args:
        system (str | None): must be empty; InstructBLIP has no system text.

    Raises:
        ValueError: for a system text.
    """

    name = "instructblip"
    adds_bos = False

    def __init__(self, system: str | None = None) -> None:
        if system:
            raise ValueError(f"{self.label} has no place for a system text.")

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of the whole conversation, in order."""
        system, turns = split_system(conversation)
        if system:
            raise ValueError(
                f"sample '{conversation.id}': {self.label} has no place for a system "
                "text."
            )
        check_alternation(turns, conversation.id, add_generation_prompt)
        out = PieceBuilder()
        for number, turn in enumerate(turns):
            supervised = turn.is_supervised
            if turn.role == "user":
                images = tuple(p for p in turn.parts if isinstance(p, Image))
                rest = tuple(p for p in turn.parts if not isinstance(p, Image))
                write_parts(
                    out, Turn("user", images), conversation.id, supervised=False
                )
                if number == 0:
                    out.token("eos")
                write_parts(out, _stripped(rest), conversation.id, supervised=False)
            else:
                out.text(" ", supervised)
                write_parts(out, turn, conversation.id, supervised=supervised)
                out.token("eos", supervised)
        return out.done()


def _stripped(parts: tuple) -> Turn:
    """Take off the line breaks that stand between an image and its question."""
    if parts and isinstance(parts[0], Text):
        parts = (parts[0].lstrip("\n"), *parts[1:])
    if parts and isinstance(parts[-1], Text):
        parts = (*parts[:-1], parts[-1].rstrip("\n"))
    return Turn("user", parts)
