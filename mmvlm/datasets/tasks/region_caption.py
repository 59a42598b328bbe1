"""A box is given, a description of what it holds is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Instance, Text, Turn

from .base import DataTask, NothingToAsk
from .draws import Draws, draws_of
from .selecting import boxed, draw_phrase, has_phrase, only_target
from .showing import check_shown, shown_region
from .templates import TemplatePool

QUESTIONS = (
    "What is in <objs>?",
    "Describe <objs>.",
    "What do you see in <objs>?",
    "Say in a few words what <objs> shows.",
    "What lies within <objs>?",
    "Give a caption for <objs>.",
    "Tell me about the part <objs> of the picture.",
)


@DATA_TASKS.register_module()
class RegionCaption(DataTask):
    """Region caption (grounded caption of one box; PINK's GC).

    Needs: instances with a box and a phrase; with ``names`` a name will do, put
    behind the attributes (``small red ball``).

    Args:
        templates (str | Sequence[str]): questions with ``<objs>``.
        answer (str | Sequence[str]): with ``<caption>``.
        names (bool): instances without phrase are described by attributes and
            name; False leaves them out.
        kind (str | Sequence[str]): how the question shows the region: ``box``,
            ``mask`` or ``point``; one of several is drawn.
        where (str): the place of a point, see :func:`shown_region`.

    Raises:
        ValueError: for another ``kind`` or ``where``.
    """

    needs = ("instances.box",)

    def __init__(
        self,
        templates: str | Sequence[str] = QUESTIONS,
        answer: str | Sequence[str] = "<caption>",
        *,
        names: bool = True,
        kind: str | Sequence[str] = "box",
        where: str = "gaussian",
    ) -> None:
        check_shown("RegionCaption", kind, where)
        self.templates = TemplatePool(templates, ["objs"])
        self.answer = TemplatePool(answer, ["caption"])
        self.names = names
        self.kind = kind
        self.where = where

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question with a region and an answer with a description."""
        draws = draws_of(rng)
        targets = [item for item in boxed(annotation) if self._has_words(item)]
        if not targets:
            raise NothingToAsk("no instance with a box and words for it.")
        target = draws.choice(targets)
        words = self._words(target, draws)
        shown = shown_region(target, annotation.size, draws, self.kind, self.where)
        question = self.templates.draw(draws, objs=shown)
        answer = self.answer.draw(draws, caption=Text(words))
        return [Turn("user", question), Turn("assistant", answer)]

    def reference(self, annotation: AnnotatedImage) -> list[str]:
        """Return all that is said of the one region."""
        return list(only_target(annotation).phrases)

    def _has_words(self, item: Instance) -> bool:
        return has_phrase(item) or bool(self.names and item.name.strip())

    @staticmethod
    def _words(item: Instance, draws: Draws) -> str:
        if has_phrase(item):
            return draw_phrase(item, draws)
        return " ".join((*item.attributes, item.name.strip()))
