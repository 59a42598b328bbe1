"""What is asked about an image, for connectors that read the question."""

from __future__ import annotations

from typing import Any

from mmvlm.registry import TOKENIZERS, TRANSFORMS
from mmvlm.structures import Conversation, Image, Turn

_TURNS = ("own", "all")


@TRANSFORMS.register_module()
class TokenizeInstructions:
    """Tokenise the question about every image with the connector's tokenizer.

    Required key: ``conversation``. Added key: ``instructions``, a list of token
    ids (list[int]), one per image. Answers never enter.

    Args:
        tokenizer (dict | Any): config of a tokenizer, or the tokenizer; of the
            vocabulary that the connector was trained with.
        max_length (int): most tokens of a question, special ones counted.
        side (str): where a longer question is cut; ``left`` as InstructBLIP does.
        turns (str): ``own``: the words of the turn that shows the image;
            ``all``: those of every question of the dialogue, in order.

    Raises:
        ValueError: an unknown ``turns`` or ``side``, or ``max_length`` below 1.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int = 128,
        side: str = "left",
        turns: str = "own",
    ) -> None:
        if turns not in _TURNS:
            raise ValueError(
                f"TokenizeInstructions: turns={turns!r}, expected one of {_TURNS}."
            )
        if side not in ("left", "right"):
            raise ValueError(
                f"TokenizeInstructions: side={side!r}, expected 'left' or 'right'."
            )
        if max_length < 1:
            raise ValueError(
                f"TokenizeInstructions: max_length={max_length}, expected at least 1."
            )
        self.tokenizer = tokenizer
        self.max_length, self.side, self.turns = max_length, side, turns

    def bind(self, context: Any) -> None:
        """Load the tokenizer, once per process that holds the dataset."""
        if isinstance(self.tokenizer, dict):
            self.tokenizer = TOKENIZERS.build(dict(self.tokenizer))
        self.tokenizer.truncation_side = self.side

    def __call__(self, item: dict) -> dict:
        """Return the item with ``instructions``.

        Raises:
            RuntimeError: before :meth:`bind`.
            ValueError: naming the sample, when nothing is asked about an image.
        """
        if isinstance(self.tokenizer, dict):
            raise RuntimeError(
                "TokenizeInstructions has no tokenizer yet; call dataset.bind(context)."
            )
        conversation: Conversation = item["conversation"]
        questions = [t for t in conversation.turns if t.role == "user"]
        texts = {}
        for turn in questions:
            for part in turn.parts:
                if isinstance(part, Image):
                    texts[part.index] = self._text(turn, questions, conversation.id)
        missing = sorted(set(range(len(conversation.images))) - set(texts))
        if missing:
            raise ValueError(
                f"sample '{conversation.id}': no question shows images {missing}; "
                "the connector reads the question about each image."
            )
        order = [texts[index] for index in sorted(texts)]
        return {**item, "instructions": [self._ids(text) for text in order]}

    def plan(self, item: dict) -> dict:
        """Return the item: what the connector reads takes no position."""
        return item

    def _text(self, turn: Turn, questions: list[Turn], sample: str) -> str:
        used = questions if self.turns == "all" else [turn]
        text = " ".join(one.text.strip() for one in used).strip()
        if not text:
            raise ValueError(
                f"sample '{sample}': an image without a question, but the connector "
                "reads the question. Give the turn words, leave the sample out "
                "(bad_samples), or use a connector with instruction_aware=False."
            )
        return text

    def _ids(self, text: str) -> list[int]:
        # A question that spells "[SEP]" asks about these characters.
        ids = self.tokenizer(
            text,
            truncation=True,
            max_length=self.max_length,
            split_special_tokens=True,
        )
        return list(ids["input_ids"])
