"""mPLUG-Owl's prompt: ``Human:`` and ``AI:`` in lines of their own."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation, Image, Text, Turn

from .base import Piece
from .delimited import DelimitedTemplate, Marks


@CHAT_TEMPLATES.register_module(name="mplug_owl")
class MPLUGOwlTemplate(DelimitedTemplate):
    r"""``{system}\nHuman: image\nHuman: {question}\nAI: {answer}</s>\n``.

    Every image is said by a line of its own.
    """

    name = "mplug_owl"
    marks = Marks(
        user_open="Human: ",
        user_close="\n",
        answer_open="AI:",
        answer_lead=" ",
        end_mark="</s>",
        answer_close="\n",
        system=(
            "The following is a conversation between a curious human and AI "
            "assistant. The assistant gives helpful, detailed, and polite answers to "
            "the user's questions."
        ),
        system_close="\n",
    )

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of the whole conversation, in order."""
        turns = [_spread(turn) for turn in conversation.turns]
        spread = Conversation(turns, conversation.images, conversation.id)
        return super().render(spread, add_generation_prompt=add_generation_prompt)


def _spread(turn: Turn) -> Turn:
    """Give every image of a question its own line."""
    if turn.role != "user" or not any(isinstance(p, Image) for p in turn.parts):
        return turn
    parts: list = []
    for part in turn.parts:
        if isinstance(part, Image):
            parts += [part, Text("\nHuman: ")]
        elif isinstance(part, Text):
            parts.append(part.strip("\n"))
        else:
            parts.append(part)
    return Turn(turn.role, tuple(parts), turn.supervised)
