"""Questions of which some have choices."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Turn

from .answers import only_question
from .base import DataTask, NothingToAsk


@DATA_TASKS.register_module()
class ChoicesOrWords(DataTask):
    """A question with choices is asked by one task, an open one by another (MMMU).

    Args:
        choices (dict | DataTask | None): config in ``DATA_TASKS``; None takes
            ``MultipleChoice``.
        words (dict | DataTask | None): likewise, ``VisualQuestionAnswering``.
    """

    def __init__(
        self,
        choices: dict | DataTask | None = None,
        words: dict | DataTask | None = None,
    ) -> None:
        defaults = (
            choices or dict(type="MultipleChoice"),
            words or dict(type="VisualQuestionAnswering"),
        )
        self.choices, self.words = (
            DATA_TASKS.build(task) if isinstance(task, dict) else task
            for task in defaults
        )

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return the one question and its answer."""
        return self._task(annotation).turns(annotation, rng)

    def reference(self, annotation: AnnotatedImage) -> Any:
        """Return the letter, or all answers."""
        return self._task(annotation).reference(annotation)

    def _task(self, annotation: AnnotatedImage) -> DataTask:
        if not annotation.questions:
            raise NothingToAsk("no question.")
        has_choices = bool(only_question(annotation).choices)
        return self.choices if has_choices else self.words
