"""The contract of chat templates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from mmvlm.structures import Conversation


@dataclass(frozen=True)
class Piece:
    """A run of rendered text, or one picture.

    Args:
        text (str): the characters; empty for a picture.
        supervised (bool): whether the model is trained to say it.
        image (int | None): index of the picture that stands here.

    """

    text: str
    supervised: bool = False
    image: int | None = None


class ChatTemplate(ABC):
    """Render a conversation as pieces.

    A template knows nothing of token ids. What it says for an answer includes
    the end mark that the model must learn to say (``</s>``, ``<|im_end|>``),
    flagged supervised.
    """

    #: Strings at which generation stops, beside the tokenizer's EOS.
    stop_strings: tuple[str, ...] = ()
    #: Special tokens that the tokenizer must hold for this template.
    special_tokens: tuple[str, ...] = ()

    @abstractmethod
    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of the whole conversation, in order.

        Args:
            conversation (Conversation): regions already written as text.
            add_generation_prompt (bool): end with what opens an answer (and
                with no end mark); the last turn must then be a user's.

        Raises:
            ValueError: naming the sample, when roles do not alternate.

        """
