"""OneLLM's template: all inputs first, then LLaVA's first text format."""

from __future__ import annotations

from dataclasses import replace

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation, Text, Turn

from .base import Piece, PieceBuilder, write_parts
from .llava_v0 import LLaVAv0Template


@CHAT_TEMPLATES.register_module(name="onellm")
class OneLLMTemplate(LLaVAv0Template):
    r"""``{inputs}{system}\n\n### Human: {question}\n### Assistant: {answer}\n### ``.

    Whatever stands in the conversation besides text comes right behind BOS, in
    reading order; the line break that followed it goes away.
    """

    name = "onellm"
    llava_version = None
    alternates = True

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the inputs, then the text of the whole conversation."""
        inputs, turns = [], []
        for turn in conversation.turns:
            texts: list[Text] = []
            cut = False
            for part in turn.parts:
                if not isinstance(part, Text):
                    inputs.append(part)
                    cut = True
                    continue
                at_break = cut and part.text.startswith("\n")
                texts.append(part.sliced(1) if at_break else part)
                cut = False
            turns.append(replace(turn, parts=tuple(texts)))
        builder = PieceBuilder()
        shown = Turn("user", tuple(inputs))
        write_parts(builder, shown, conversation.id, supervised=False)
        text_only = replace(conversation, turns=turns, images=[], media={})
        return builder.done() + super().render(
            text_only, add_generation_prompt=add_generation_prompt
        )
