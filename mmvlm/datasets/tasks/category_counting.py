"""How many there are of a class, which is named or shown by an example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Text, Turn

from .base import DataTask, region
from .category_detection import draw_class
from .draws import draws_of
from .templates import TemplatePool

BY_NAME = (
    "How many things of the class <category> are there?",
    "Count what belongs to the class <category>.",
    "What is the number of <category> instances here?",
    "Say how often a <category> can be seen.",
)
BY_EXAMPLE = (
    "How many things are of the same kind as <object>?",
    "Count all that is like <object>, itself included.",
    "What is the number of things that are what <object> shows?",
    "Say how often the kind of <object> can be seen.",
)


@DATA_TASKS.register_module()
class CategoryCounting(DataTask):
    """PINK's counting task: as :class:`CategoryDetection`, answered by the number.

    A class with one instance may be shown by it here.

    Needs: instances with box and name.

    Args:
        by_name (str | Sequence[str]): wordings with ``<category>``.
        by_example (str | Sequence[str]): wordings with ``<object>``.
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
        """Return a question for a number and the number."""
        draws = draws_of(rng)
        by_example = draws.integer(2) == 1
        name, items, example = draw_class(annotation, draws)
        if by_example:
            shown = region([example], annotation.size)
            question = self.by_example.draw(draws, object=shown)
        else:
            question = self.by_name.draw(draws, category=Text(name, "category"))
        return [Turn("user", question), Turn("assistant", (Text(str(len(items))),))]
