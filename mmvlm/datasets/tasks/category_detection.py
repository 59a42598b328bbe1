"""All boxes of a class, which is named or shown by an example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Instance, Text, Turn

from .base import DataTask, region
from .draws import Draws, draws_of
from .selecting import by_area, by_name
from .templates import TemplatePool

BY_NAME = (
    "Find every <category>.",
    "Mark all things of the class <category>.",
    "Where can a <category> be seen? Give all boxes.",
    "Give the boxes of all that is a <category>.",
)
BY_EXAMPLE = (
    "Find everything of the same kind as <object>.",
    "Mark all things of the class that <object> shows.",
    "Where is more of what <object> holds? Give all boxes.",
    "Give the boxes of all that is like <object>.",
)


@DATA_TASKS.register_module()
class CategoryDetection(DataTask):
    """PINK's detection task: two forms, equally likely.

    How many instances there shall be is drawn among the counts that occur, then a
    class that has as many, then one of its instances; so rare classes are not lost
    among frequent ones. 1. The class is named, 2. the instance is shown; a class
    with one instance is always named. The answer is one region with all boxes of the
    class, small ones first. Classes that crowds bear too are left out.

    Needs: instances with box and name.

    Args:
        by_name (str | Sequence[str]): wordings of form 1, with ``<category>``.
        by_example (str | Sequence[str]): of form 2, with ``<object>``.
    """

    needs = ("instances.box", "instances.name")

    def __init__(
        self,
        by_name: str | Sequence[str] = BY_NAME,
        by_example: str | Sequence[str] = BY_EXAMPLE,
    ) -> None:
        self.by_name = TemplatePool(by_name, ["category"])
        self.by_example = TemplatePool(by_example, ["object"])

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question for a class and all its boxes."""
        draws = draws_of(rng)
        by_example = draws.integer(2) == 1
        name, items, example = draw_class(annotation, draws)
        if by_example and len(items) > 1:
            shown = region([example], annotation.size)
            question = self.by_example.draw(draws, object=shown)
        else:
            question = self.by_name.draw(draws, category=Text(name, "category"))
        answer = (region(by_area(items), annotation.size),)
        return [Turn("user", question), Turn("assistant", answer)]


def draw_class(
    annotation: AnnotatedImage, draws: Draws
) -> tuple[str, list[Instance], Instance]:
    """Return a class, its instances and one of them: count, class, instance."""
    groups = by_name(annotation)
    count = draws.choice(sorted({len(items) for items in groups.values()}))
    name = draws.choice([n for n, items in groups.items() if len(items) == count])
    return name, groups[name], draws.choice(groups[name])
