"""What lies to the top left of something, and to its other corners."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Instance, Text, Turn
from mmvlm.structures.conversation import Part

from .base import DataTask, NothingToAsk, region
from .draws import Draws, draws_of
from .selecting import boxed, boxes_and_names, draw_phrase, has_phrase
from .templates import TemplatePool

BOTH = (
    "What lies to the <loc> of <object>? Give boxes and names.",
    "Mark and name all things to the <loc> of <object>.",
    "Which things are at the <loc> of <object>, and where?",
)
NAMES = (
    "What lies to the <loc> of <object>? Give names only.",
    "Name all things to the <loc> of <object>.",
    "Which kinds of things are at the <loc> of <object>?",
)
BOXES = (
    "What lies to the <loc> of <object>? Give boxes only.",
    "Mark all things to the <loc> of <object>.",
    "Where are things at the <loc> of <object>?",
)
DIRECTIONS = ("top left", "top right", "bottom left", "bottom right")


@DATA_TASKS.register_module()
class CoarseLocation(DataTask):
    """PINK's coarse spatial task: three forms, equally likely.

    An anchor is given, half of the time as a phrase, half of the time as a box, and
    a direction. The answer is what has its centre strictly on that side of the
    anchor's centre in both axes, small boxes first: 1. boxes and names, 2. names,
    3. boxes; ``N/A`` when there is nothing.

    Needs: instances with box and name (and some with a phrase, for anchors in
    words; without, all anchors are boxes).

    Args:
        both (str | Sequence[str]): wordings of form 1, with ``<loc>`` and
            ``<object>``.
        names (str | Sequence[str]): of form 2.
        boxes (str | Sequence[str]): of form 3.
        empty (str): the answer when nothing lies there.
    """

    needs = ("instances.box", "instances.name")

    def __init__(
        self,
        both: str | Sequence[str] = BOTH,
        names: str | Sequence[str] = NAMES,
        boxes: str | Sequence[str] = BOXES,
        *,
        empty: str = "N/A",
    ) -> None:
        self.pools = [TemplatePool(p, ["loc", "object"]) for p in (both, names, boxes)]
        self.empty = empty

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question about a side of something and what lies there."""
        draws = draws_of(rng)
        form = draws.integer(3)
        found = boxed(annotation)
        things = [item for item in found if item.name.strip()]
        if not things:
            raise NothingToAsk("no instance with a box and a name.")
        anchor, shown = self._anchor(found, things, annotation.size, draws)
        direction = draws.choice(DIRECTIONS)
        question = self.pools[form].draw(draws, loc=direction, object=shown)
        there = [item for item in things if _lies(item, anchor, direction)]
        answer: tuple[Part, ...] = (Text(self.empty),)
        if there:
            size = annotation.size
            answer = boxes_and_names(there, size, boxes=form != 1, names=form != 2)
        return [Turn("user", question), Turn("assistant", answer)]

    @staticmethod
    def _anchor(
        found: list[Instance], things: list[Instance], size: tuple, draws: Draws
    ) -> tuple[Instance, Part]:
        described = [item for item in found if has_phrase(item)]
        if draws.chance() <= 0.5 and described:
            anchor = draws.choice(described)
            return anchor, Text(draw_phrase(anchor, draws), "expression")
        anchor = draws.choice(things)
        return anchor, region([anchor], size)


def _centre(item: Instance) -> tuple[float, float]:
    x1, y1, x2, y2 = item.box
    return (x1 + x2) / 2, (y1 + y2) / 2


def _lies(item: Instance, anchor: Instance, direction: str) -> bool:
    """Whether a centre is strictly on a side of another, in both axes."""
    (x, y), (left, top) = _centre(item), _centre(anchor)
    vertical, horizontal = direction.split()
    beside = x < left if horizontal == "left" else x > left
    return beside and (y < top if vertical == "top" else y > top)
