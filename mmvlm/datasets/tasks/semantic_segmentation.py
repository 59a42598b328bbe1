"""A class is named, the mask of all that belongs to it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Instance, Text, Turn

from .base import DataTask, NothingToAsk
from .draws import Draws, draws_of
from .segmentation import ANSWERS, NAME_QUESTIONS, has_mask, mask_region
from .templates import TemplatePool

_UNITS = ("class", "instance")


@DATA_TASKS.register_module()
class SemanticSegmentation(DataTask):
    """Masks of classes, some of an image's in one sample.

    Needs: instances with a mask and a name. A part, whose ``meta`` has ``object`` and
    ``part``, is called ``dog head`` or ``the head of the dog``, as likely.

    Args:
        questions (str | Sequence[str]): with ``<name>``.
        answers (str | Sequence[str]): with ``<mask>``.
        max_classes (int): asked about in one sample, drawn without repetition.
        unit (str): ``class``: everything of one name is one mask, crowds included;
            ``instance``: every instance alone, crowds left out, as LISA reads PACO
            and PASCAL-Part.
        lower_case (bool): write names in lower case.

    Raises:
        ValueError: for another ``unit``, or ``max_classes`` below 1.
    """

    needs = ("instances.name",)

    def __init__(
        self,
        questions: str | Sequence[str] = NAME_QUESTIONS,
        answers: str | Sequence[str] = ANSWERS,
        *,
        max_classes: int = 3,
        unit: str = "class",
        lower_case: bool = True,
    ) -> None:
        if unit not in _UNITS or max_classes < 1:
            raise ValueError(
                f"SemanticSegmentation: unit='{unit}', max_classes={max_classes}; "
                f"expected one of {_UNITS} and 1 or more."
            )
        self.questions = TemplatePool(questions, ["name"])
        self.answers = TemplatePool(answers, ["mask"])
        self.max_classes = max_classes
        self.unit = unit
        self.lower_case = lower_case

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question and an answer for each of some classes."""
        named = [i for i in annotation.instances if has_mask(i) and i.name.strip()]
        if self.unit == "class":
            groups = _by_name(named)
        else:
            groups = [[item] for item in named if not item.is_crowd]
        if not groups:
            raise NothingToAsk("no instance with a mask and a name.")
        draws = draws_of(rng)
        turns = []
        for group in draws.sample(groups, self.max_classes):
            name = _call(group[0], draws)
            name = name.lower() if self.lower_case else name
            mask = mask_region(group, annotation.size, name)
            question = self.questions.draw(draws, name=Text(name, "category"))
            turns.append(Turn("user", question))
            turns.append(Turn("assistant", self.answers.draw(draws, mask=mask)))
        return turns


def _by_name(instances: Sequence[Instance]) -> list[list[Instance]]:
    groups: dict[str, list[Instance]] = {}
    for item in instances:
        groups.setdefault(item.name.strip(), []).append(item)
    return list(groups.values())


def _call(instance: Instance, draws: Draws) -> str:
    thing, part = instance.meta.get("object"), instance.meta.get("part")
    if not thing or not part:
        return instance.name.strip()
    return draws.choice((f"{thing} {part}", f"the {part} of the {thing}"))
