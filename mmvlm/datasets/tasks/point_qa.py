"""Questions about the thing at a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import (
    AnnotatedImage,
    Instance,
    Region,
    Text,
    Turn,
    VisualQuestion,
)

from .base import DataTask, NothingToAsk
from .draws import draws_of
from .selecting import area, boxed
from .showing import check_shown, shown_region
from .templates import TemplatePool

ABOUT = (
    "Look at <point>. <question>",
    "About the thing at <point>: <question>",
    "<question> I mean the one at <point>.",
)
WHAT = (
    "What is at <point>?",
    "Name the thing at <point>.",
    "Which thing covers <point>?",
)


@DATA_TASKS.register_module()
class PointQA(DataTask):
    """Point question answering (PointQA, Visual7W's pointing answers).

    A question that points at instances is asked with a point in one of them; in an
    image without such questions the name of the thing at a point is asked. Where
    boxes overlap, a point means the smallest box around it: a name is only asked for
    a point whose smallest box bears it.

    Needs: questions with answers and instances with boxes; or instances with box and
    name.

    Args:
        where (str): the point in the box: ``centre``; ``uniform``; ``gaussian``
            around the centre, with a standard deviation of 0.15 of the sides, drawn
            again outside the box (Ferret's).
        templates (str | Sequence[str]): with ``<point>`` and ``<question>``.
        names (str | Sequence[str]): with ``<point>``, for names.
        answer (str | Sequence[str]): with ``<answer>``; Shikra's is ``The answer is
            <answer> .``
        as_box (bool): show the box instead of a point in it.

    Raises:
        ValueError: for another ``where``.
    """

    needs = ("instances.box",)

    def __init__(
        self,
        where: str = "gaussian",
        templates: str | Sequence[str] = ABOUT,
        names: str | Sequence[str] = WHAT,
        answer: str | Sequence[str] = "<answer>",
        *,
        as_box: bool = False,
    ) -> None:
        check_shown("PointQA", "point", where)
        self.where = where
        self.templates = TemplatePool(templates, ["point", "question"])
        self.names = TemplatePool(names, ["point"])
        self.answer = TemplatePool(answer, ["answer"])
        self.kind = "box" if as_box else "point"

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question with a point and its answer."""
        draws = draws_of(rng)
        things = boxed(annotation)
        pairs = [(q, _targets(q, annotation)) for q in annotation.questions]
        candidates = [(q, targets) for q, targets in pairs if targets and q.answers]
        if candidates:
            question, targets = draws.choice(candidates)
            target = draws.choice(targets)
            shown = shown_region(target, annotation.size, draws, self.kind, self.where)
            asking = Text(question.question, "question")
            words = self.templates.draw(draws, point=shown, question=asking)
            answer_text = question.answers[0]
        else:
            named = [item for item in things if item.name.strip()]
            if not named:
                raise NothingToAsk("no question about an instance, and no name.")
            target = draws.choice(named)
            shown = shown_region(target, annotation.size, draws, self.kind, self.where)
            words = self.names.draw(draws, point=shown)
            answer_text = _at(shown, target, named).name.strip()
        answer = self.answer.draw(draws, answer=answer_text)
        return [Turn("user", words), Turn("assistant", answer)]


def _targets(question: VisualQuestion, annotation: AnnotatedImage) -> list[Instance]:
    """Return the instances with boxes that a question points at.

    Raises:
        ValueError: for an index outside.
    """
    count = len(annotation.instances)
    wrong = [index for index in question.instances if not 0 <= index < count]
    if wrong:
        raise ValueError(
            f"question '{question.question:.40}' names instances {wrong}, but there "
            f"are {count}."
        )
    found = [annotation.instances[index] for index in question.instances]
    return [item for item in found if item.box is not None]


def _at(shown: Region, target: Instance, things: Sequence[Instance]) -> Instance:
    """Return what a point means: the smallest thing whose box holds it."""
    if shown.kind != "point":
        return target
    x, y = shown.boxes.xyxy[0, :2]
    holding = [
        item
        for item in things
        if item.box[0] <= x <= item.box[2] and item.box[1] <= y <= item.box[3]
    ]
    return min(holding or [target], key=area)
