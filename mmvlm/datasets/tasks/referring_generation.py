"""A box is given, an expression that means it and nothing else is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Text, Turn

from .base import DataTask
from .draws import draws_of
from .selecting import draw_phrase, with_phrase
from .showing import check_shown, shown_region
from .templates import TemplatePool

QUESTIONS = (
    "Refer to <objs> so that it cannot be mistaken.",
    "Name <objs> in words that fit nothing else in the picture.",
    "How would you point out <objs> to somebody in words?",
    "Give an expression that singles out <objs>.",
    "Which words tell <objs> from everything around it?",
    "Write a short reference to <objs>.",
)


@DATA_TASKS.register_module()
class ReferringGeneration(DataTask):
    """Referring expression generation (REG).

    Needs: instances with a box and a phrase.

    Args:
        templates (str | Sequence[str]): questions with ``<objs>``.
        answer (str | Sequence[str]): with ``<expr>``.
        kind (str | Sequence[str]): how the question shows the region: ``box``,
            ``mask`` or ``point``; one of several is drawn.
        where (str): the place of a point, see :func:`shown_region`.

    Raises:
        ValueError: for another ``kind`` or ``where``.
    """

    needs = ("instances.box", "instances.phrases")

    def __init__(
        self,
        templates: str | Sequence[str] = QUESTIONS,
        answer: str | Sequence[str] = "<expr>",
        *,
        kind: str | Sequence[str] = "box",
        where: str = "gaussian",
    ) -> None:
        check_shown("ReferringGeneration", kind, where)
        self.templates = TemplatePool(templates, ["objs"])
        self.answer = TemplatePool(answer, ["expr"])
        self.kind = kind
        self.where = where

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question with a region and an answer with an expression."""
        draws = draws_of(rng)
        target = draws.choice(with_phrase(annotation))
        words = draw_phrase(target, draws)
        shown = shown_region(target, annotation.size, draws, self.kind, self.where)
        question = self.templates.draw(draws, objs=shown)
        answer = self.answer.draw(draws, expr=Text(words))
        return [Turn("user", question), Turn("assistant", answer)]
