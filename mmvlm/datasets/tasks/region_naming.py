"""A region is shown, and which of two classes it is is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Instance, Text, Turn

from .base import DataTask, NothingToAsk
from .draws import Draws, draws_of
from .selecting import with_name
from .showing import check_shown, shown_region
from .templates import TemplatePool

QUESTIONS = ("Is the object <objs> of the image a <first> or a <second>?",)


@DATA_TASKS.register_module()
class RegionNaming(DataTask):
    """Referring object classification (Ferret): the class of a region, or another one.

    The other class is one that the image surely lacks: Ferret draws its own, so that
    its published numbers are of other pairs. Which comes first is drawn.

    Needs: instances with a box and a name, and ``meta["absent_names"]`` (LVIS).

    Paper: You et al., "Ferret: Refer and Ground Anything Anywhere at Any Granularity",
    ICLR 2024, arXiv 2310.07704.

    Args:
        templates (str | Sequence[str]): with ``<objs>``, ``<first>``, ``<second>``.
        kind (str | Sequence[str]): how the question shows the region: ``box``,
            ``mask`` or ``point``; one of several is drawn.
        where (str): the place of a point, see :func:`shown_region`.

    Raises:
        ValueError: for another ``kind`` or ``where``.
    """

    needs = ("instances.box", "instances.name")

    def __init__(
        self,
        templates: str | Sequence[str] = QUESTIONS,
        *,
        kind: str | Sequence[str] = "box",
        where: str = "gaussian",
    ) -> None:
        check_shown("RegionNaming", kind, where)
        self.templates = TemplatePool(templates, ["objs", "first", "second"])
        self.kind = kind
        self.where = where

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question with a region and two names, and the right name."""
        draws = draws_of(rng)
        target = draws.choice(with_name(annotation))
        names = [target.name.strip(), self._other(annotation, target, draws)]
        if draws.integer(2):
            names.reverse()
        shown = shown_region(target, annotation.size, draws, self.kind, self.where)
        question = self.templates.draw(
            draws, objs=shown, first=Text(names[0]), second=Text(names[1])
        )
        return [
            Turn("user", question),
            Turn("assistant", (Text(f"It is a {target.name.strip()}."),)),
        ]

    def reference(self, annotation: AnnotatedImage) -> dict:
        """Return ``name`` and ``synonyms`` of the one region."""
        found = with_name(annotation)
        if len(found) != 1:
            raise ValueError(
                f"{len(found)} instances could be asked about; to score them read the "
                "file with per='instance'."
            )
        return dict(name=found[0].name, synonyms=found[0].meta.get("synonyms", []))

    @staticmethod
    def _other(annotation: AnnotatedImage, target: Instance, draws: Draws) -> str:
        absent = [
            name
            for name in annotation.meta.get("absent_names", ())
            if name.strip() and name.strip() != target.name.strip()
        ]
        if not absent:
            raise NothingToAsk("no class that the image surely lacks.")
        return draws.choice(absent).strip()
