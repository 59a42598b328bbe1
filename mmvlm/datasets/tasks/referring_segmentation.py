"""An expression is given, the mask of what it means is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Text, Turn
from mmvlm.structures.masks import union_rle

from .base import DataTask, NothingToAsk
from .draws import draws_of
from .segmentation import ANSWERS, NAME_QUESTIONS, has_mask, mask_region
from .selecting import only_target
from .templates import TemplatePool


@DATA_TASKS.register_module()
class ReferringSegmentation(DataTask):
    """Referring expression segmentation (RES).

    Needs: instances with a mask and a phrase. Every answer holds a region of kind
    ``mask``: the union of the instance's polygons, or its run lengths.

    Args:
        questions (str | Sequence[str]): with ``<name>``.
        answers (str | Sequence[str]): with ``<mask>``.
        max_questions (int): (instance, phrase) pairs asked about in one sample, drawn
            without repetition; LISA takes 3. Take 1 to score.
        lower_case (bool): write phrases in lower case, as LISA does.

    Raises:
        ValueError: for ``max_questions`` below 1.
    """

    needs = ("instances.phrases",)

    def __init__(
        self,
        questions: str | Sequence[str] = NAME_QUESTIONS,
        answers: str | Sequence[str] = ANSWERS,
        *,
        max_questions: int = 3,
        lower_case: bool = True,
    ) -> None:
        if max_questions < 1:
            raise ValueError(
                f"ReferringSegmentation: max_questions={max_questions}, expected 1 or "
                "more."
            )
        self.questions = TemplatePool(questions, ["name"])
        self.answers = TemplatePool(answers, ["mask"])
        self.max_questions = max_questions
        self.lower_case = lower_case

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question and an answer for each of some expressions."""
        pairs = [
            (instance, phrase.strip())
            for instance in annotation.instances
            for phrase in instance.phrases
            if has_mask(instance) and phrase.strip()
        ]
        if not pairs:
            raise NothingToAsk("no instance with a mask and a phrase.")
        draws = draws_of(rng)
        turns = []
        for instance, phrase in draws.sample(pairs, self.max_questions):
            phrase = phrase.lower() if self.lower_case else phrase
            mask = mask_region([instance], annotation.size, phrase)
            question = self.questions.draw(draws, name=Text(phrase, "expression"))
            turns.append(Turn("user", question))
            turns.append(Turn("assistant", self.answers.draw(draws, mask=mask)))
        return turns

    def reference(self, annotation: AnnotatedImage) -> dict:
        """Return COCO's run lengths of the mask."""
        return union_rle([only_target(annotation)], annotation.size)
