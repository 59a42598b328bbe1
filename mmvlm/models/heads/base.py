"""The contract of heads: what a model learns and says beside the next token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from mmengine.model import BaseModule

from mmvlm.models.utils.feed import Feed
from mmvlm.structures import Targets, VLMBatch, VLMDataSample

if TYPE_CHECKING:
    from mmvlm.models.language_models.generation_steps import GenerationStep

#: Where the state of a token is read.
POSITIONS = ("before", "at")


class LossTerm(NamedTuple):
    """One loss as a sum, so that batches of a step can be joined rightly.

    Args:
        sum (torch.Tensor): (), float32.
        count (int): of what it is the sum; the step's mean is over all counts.
    """

    sum: torch.Tensor
    count: int


class Head(BaseModule):
    """States of the language model to losses and predictions.

    A head reads a state of every token that the text marks for it, in training and in
    generation alike: the one from which it is chosen, or its own. One with others
    overrides :meth:`rows`. Its losses are sums; the train loop gathers their counts
    over all ranks and micro-batches of a step and divides each by its own.

    Args:
        in_width (int): of the states (Dl), filled in by the VLM.
        weight (float | dict[str, float]): of its losses, or of each by name.
        position (str): of the state of a token: ``before``, one place before it, from
            which it is chosen (LISA, GLaMM, PixelLM), or ``at`` its own (Sa2VA), which
            takes a second pass over replies.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for another position, or weights that are not those of its losses.
    """

    #: Names of its losses.
    terms: tuple[str, ...] = ()
    #: What it reads beside the states; see :func:`parse_source`.
    reads: tuple[str, ...] = ()
    #: Tokens whose states it wants when the model answers.
    tokens: tuple[str, ...] = ()
    #: Its name among the model's parts, and its key in ``batch.targets``.
    name: str = ""

    def __init__(
        self,
        *,
        in_width: int,
        weight: float | dict[str, float] = 1.0,
        position: str = "before",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if position not in POSITIONS:
            raise ValueError(
                f"{type(self).__name__}: position='{position}', expected one of "
                f"{list(POSITIONS)}."
            )
        self.in_width, self.position = in_width, position
        if not isinstance(weight, dict):
            weight = dict.fromkeys(self.terms, weight)
        self.weights = weight
        if set(weight) != set(self.terms):
            raise ValueError(
                f"{type(self).__name__}: weight={weight}, expected a number, or one "
                f"for each of {list(self.terms)}."
            )

    def rows(self, batch: VLMBatch) -> torch.Tensor:
        """Return the flat positions of the states that it reads: (K,) int64."""
        targets = batch.targets.get(self.name)
        if targets is None:
            return batch.text.target_rows[:0]
        return targets.rows - int(self.position == "before")

    def counts(self, batch: VLMBatch) -> dict[str, int]:
        """Return what every loss will be a sum of, known on the host."""
        number = len(batch.targets.get(self.name, ()))
        return dict.fromkeys(self.terms, number)

    def loss(
        self, hidden: torch.Tensor, targets: Targets | None, feed: Feed
    ) -> dict[str, LossTerm]:
        """Return the losses of one batch, one for each of ``terms``.

        A head that only predicts has none.

        Args:
            hidden (torch.Tensor): (K, Dl), states at :meth:`rows`; K is above 0.
            targets (Targets | None): what to learn.
            feed (Feed): inputs and features of the batch.
        """
        return {}

    def on_step(self, step: GenerationStep, tokenizer: Any) -> None:
        """Take a hand in a step of generation; the default does nothing."""

    def predict(
        self,
        states: Sequence[torch.Tensor],
        samples: Sequence[VLMDataSample],
        feed: Feed,
    ) -> None:
        """Fill samples from the states of the head's tokens in their replies.

        Args:
            states (Sequence[torch.Tensor]): per sample (K, Dl), in order; K may be 0.
            samples (Sequence[VLMDataSample]): to be filled.
            feed (Feed): inputs and features of the batch.
        """

    @property
    def takes_steps(self) -> bool:
        """Whether it has a hand in generation."""
        return type(self).on_step is not Head.on_step

    @classmethod
    def tiny(cls, in_width: int = 48) -> Head:
        """Build a miniature for tests; override when the constructor needs more."""
        return cls(in_width=in_width)


def check_terms(terms: Mapping[str, LossTerm], counts: Mapping[str, int]) -> None:
    """Hold the counts of losses against what was promised for them."""
    for name in {**counts, **terms}:
        found, promised = terms.get(name, LossTerm(0, None)).count, counts.get(name)
        if found != promised:
            text = (
                f"loss '{name}' is a sum of {found}, but counts() promised {promised}."
            )
            raise ValueError(text)
