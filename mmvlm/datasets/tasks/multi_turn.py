"""Questions of several tasks about one image, in one conversation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Text, Turn

from .base import DataTask, NothingToAsk
from .draws import draws_of

#: Tasks between words and boxes that most region annotations allow.
DEFAULT_TASKS = (
    dict(type="ReferringComprehension"),
    dict(type="ReferringGeneration"),
    dict(type="RegionCaption"),
)
_TRIES_PER_ROUND = 4


@DATA_TASKS.register_module()
class MultiTurn(DataTask):
    """Merge rounds of other tasks: the image is encoded once for many questions.

    Tasks are drawn by weight until there are ``max_rounds`` rounds. A task that the
    image does not allow is not drawn again for it; the same question is not asked
    twice. Rounds keep the order in which they were drawn. With ``max_rounds=1`` it
    is a mixture of tasks, one per sample (PINK's task pool).

    Needs: what one of its tasks needs.

    Args:
        tasks (Sequence[dict | DataTask]): configs in ``DATA_TASKS``, or tasks.
        weights (Sequence[float] | None): of the tasks; None: equal.
        max_rounds (int): most questions; a task that asks several at once is cut
            there, between its rounds.
        vary (bool): draw the number of rounds from 1 to ``max_rounds``.

    Raises:
        ValueError: without a task, or for weights that do not fit.
    """

    def __init__(
        self,
        tasks: Sequence[dict | DataTask] = DEFAULT_TASKS,
        weights: Sequence[float] | None = None,
        *,
        max_rounds: int = 5,
        vary: bool = False,
    ) -> None:
        if not tasks or max_rounds < 1:
            raise ValueError(
                f"MultiTurn: {len(tasks)} tasks and max_rounds={max_rounds}; expected "
                "one or more of each."
            )
        weights = [1.0] * len(tasks) if weights is None else list(weights)
        if len(weights) != len(tasks) or min(weights) <= 0:
            raise ValueError(
                f"MultiTurn: weights={weights} for {len(tasks)} tasks; expected one "
                "positive number per task."
            )
        self.tasks = [DATA_TASKS.build(t) if isinstance(t, dict) else t for t in tasks]
        self.weights = weights
        self.max_rounds = max_rounds
        self.vary = vary

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return rounds of questions and answers of several tasks."""
        draws = draws_of(rng)
        num_rounds = (
            1 + draws.integer(self.max_rounds) if self.vary else self.max_rounds
        )
        able = list(range(len(self.tasks)))
        turns: list[Turn] = []
        seen: set[str] = set()
        reasons: list[str] = []
        for _ in range(num_rounds * _TRIES_PER_ROUND):
            if not able or len(turns) >= 2 * num_rounds:
                break
            number = draws.choice(able, [self.weights[index] for index in able])
            try:
                rounds = self.tasks[number].turns(annotation, rng)
            except NothingToAsk as error:
                able.remove(number)
                reasons.append(f"{type(self.tasks[number]).__name__}: {error}")
                continue
            for question, answer in _rounds(rounds):
                words = _words(question)
                if words not in seen and len(turns) < 2 * num_rounds:
                    seen.add(words)
                    turns += [question, answer]
        if not turns:
            raise NothingToAsk(" ".join(reasons))
        return turns


def _rounds(turns: Sequence[Turn]) -> list[tuple[Turn, Turn]]:
    """Return pairs of a question and its answer.

    Raises:
        ValueError: for turns that are no such pairs; only those can be merged.
    """
    roles = [turn.role for turn in turns]
    if roles != ["user", "assistant"] * (len(turns) // 2):
        raise ValueError(f"MultiTurn merges questions and answers, not {roles}.")
    return list(zip(turns[::2], turns[1::2], strict=True))


def _words(turn: Turn) -> str:
    """Return what a question says, its regions included, to tell questions apart."""
    return " ".join(
        part.text
        if isinstance(part, Text)
        else str(getattr(part, "boxes", None) and part.boxes.xyxy.tolist())
        for part in turn.parts
    )
