"""Is it there? Yes, with its box; or no, with the box of what is there instead."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Instance, Text, Turn
from mmvlm.structures.conversation import Part

from .base import DataTask, NothingToAsk, region
from .draws import Draws, draws_of
from .selecting import by_name, names_of
from .templates import TemplatePool

QUESTIONS = (
    "Is there <object> in the picture?",
    "Can you see <object>?",
    "Does the picture show <object>?",
    "Do you find <object> here?",
    "Tell me whether <object> is there.",
)
YES = ("Yes, there is <boxes>.", "Yes, I see <boxes>.", "Yes: <boxes>.")
INSTEAD = ("No, but there is <boxes>.", "No, I only see <boxes>.")
NO = ("No, there is no <name>.", "No.", "No, I see no <name>.")
#: Classes that are easily taken for one another, and a vocabulary to deny from.
CONFUSABLES: dict[str, tuple[str, ...]] = {
    "dog": ("cat", "wolf", "fox", "sheep"),
    "cat": ("dog", "rabbit", "fox"),
    "horse": ("cow", "donkey", "zebra"),
    "cow": ("horse", "sheep", "goat"),
    "sheep": ("goat", "dog", "cow"),
    "bird": ("kite", "airplane", "bat"),
    "car": ("truck", "bus", "van"),
    "bus": ("truck", "train", "tram"),
    "truck": ("bus", "car", "van"),
    "bicycle": ("motorcycle", "scooter"),
    "motorcycle": ("bicycle", "scooter"),
    "boat": ("ship", "surfboard", "raft"),
    "chair": ("couch", "stool", "bench"),
    "couch": ("bed", "chair", "bench"),
    "cup": ("bowl", "bottle", "vase"),
    "bottle": ("vase", "cup", "jar"),
    "fork": ("spoon", "knife"),
    "knife": ("fork", "spoon", "scissors"),
    "apple": ("orange", "tomato", "peach"),
    "orange": ("apple", "lemon", "ball"),
    "laptop": ("keyboard", "tablet", "television"),
    "book": ("notebook", "magazine", "tablet"),
    "hat": ("helmet", "cap", "wig"),
    "circle": ("square", "ring"),
    "square": ("circle", "triangle", "cross"),
    "triangle": ("square", "cross"),
}


@DATA_TASKS.register_module()
class Existence(DataTask):
    """Yes-no questions about classes, balanced, with spatial negatives (Ferret's).

    A positive asks for a class of the image and grounds all its instances. A
    negative asks for a class that is not there: *image-conditioned*: any absent
    class of the vocabulary; *semantics-conditioned*: one that is easily confused
    with a class of the image, whose instances the answer then grounds (``No, but
    there is a dog [box]``). Yes and no are equally frequent unless
    ``negative_share`` says otherwise; where no negative can be made, nothing is
    asked, so that the balance holds.

    An absent class is one that no instance is named by: the files must annotate all
    instances of the vocabulary (COCO and Objects365 do, Visual Genome does not).
    Names that the file itself knows to be absent may stand in
    ``meta["absent_names"]`` (a list, as LVIS has it); negatives are then drawn from
    them alone.

    Needs: instances with box and name.

    Args:
        vocabulary (Sequence[str] | str | None): classes to deny, or a JSON file with
            a list of them; None: all names in ``confusables``.
        confusables (Mapping | str | None): per class those it is confused with, or a
            JSON file; None takes :data:`CONFUSABLES`.
        negative_share (float): how many questions are answered ``no``, 0 to 1.
        semantic_share (float): how many of those are semantics-conditioned, where
            the image allows it, 0 to 1.
        templates (str | Sequence[str]): questions with ``<object>``.
        yes (str | Sequence[str]): with ``<boxes>``.
        instead (str | Sequence[str]): with ``<boxes>``; no, but something like it.
        no (str | Sequence[str]): may have ``<name>``.

    Raises:
        ValueError: for a share outside 0 .. 1 or an empty vocabulary.
    """

    needs = ("instances.box", "instances.name")

    def __init__(
        self,
        vocabulary: Sequence[str] | str | None = None,
        confusables: Mapping[str, Sequence[str]] | str | None = None,
        *,
        negative_share: float = 0.5,
        semantic_share: float = 0.5,
        templates: str | Sequence[str] = QUESTIONS,
        yes: str | Sequence[str] = YES,
        instead: str | Sequence[str] = INSTEAD,
        no: str | Sequence[str] = NO,
    ) -> None:
        for name, value in (("negative", negative_share), ("semantic", semantic_share)):
            if not 0 <= value <= 1:
                raise ValueError(f"Existence: {name}_share={value}, expected 0 to 1.")
        pairs = CONFUSABLES if confusables is None else _from_file(confusables)
        self.confusables = {key: tuple(names) for key, names in pairs.items()}
        if vocabulary is None:
            every = [
                n for key, names in self.confusables.items() for n in (key, *names)
            ]
        else:
            every = list(_from_file(vocabulary))
        self.vocabulary = tuple(dict.fromkeys(every))
        if not self.vocabulary:
            raise ValueError("Existence: the vocabulary is empty.")
        self.negative_share = negative_share
        self.semantic_share = semantic_share
        self.templates = TemplatePool(templates, ["object"])
        self.yes = TemplatePool(yes, ["boxes"])
        self.instead = TemplatePool(instead, ["boxes"])
        self.no = TemplatePool(no, optional=["name"])

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a yes-no question and an answer that grounds what is there."""
        draws = draws_of(rng)
        groups = by_name(annotation)
        if draws.chance() >= self.negative_share:
            name = draws.choice(list(groups))
            answer = self.yes.draw(draws, boxes=_shown(name, groups, annotation))
        else:
            name, counterpart = self._deny(annotation, groups, draws)
            if counterpart is None:
                answer = self.no.draw(draws, name=name)
            else:
                boxes = _shown(counterpart, groups, annotation)
                answer = self.instead.draw(draws, boxes=boxes)
        phrase: tuple[Part, ...] = (Text(f"{article(name)} "), Text(name, "category"))
        question = self.templates.draw(draws, object=phrase)
        return [Turn("user", question), Turn("assistant", answer)]

    def _deny(
        self,
        annotation: AnnotatedImage,
        groups: Mapping[str, list[Instance]],
        draws: Draws,
    ) -> tuple[str, str | None]:
        """Return a class that is absent and, if confusable, what is there instead."""
        present = {n.lower() for i in annotation.instances for n in names_of(i)}
        known = annotation.meta.get("absent_names")
        near = [
            (other, name)
            for name in groups
            for other in self.confusables.get(name.lower(), ())
            if other.lower() not in present and (known is None or other in known)
        ]
        far = self.vocabulary if known is None else known
        far = [name for name in far if name.lower() not in present]
        if near and (not far or draws.chance() < self.semantic_share):
            return draws.choice(near)
        if not far:
            raise NothingToAsk("no class of the vocabulary is absent.")
        return draws.choice(far), None


def article(name: str) -> str:
    """Return ``a`` or ``an``, by the first letter."""
    return "an" if name[:1].lower() in "aeiou" else "a"


def _shown(
    name: str, groups: Mapping[str, list[Instance]], annotation: AnnotatedImage
) -> Part:
    phrase = f"{article(name)} {name}"
    return region(groups[name], annotation.size, phrase=phrase)


def _from_file(source):
    """Return what a JSON file holds, or what is given already.

    Raises:
        ValueError: naming the file, when it is missing or no JSON.
    """
    if not isinstance(source, str):
        return source
    try:
        with open(source, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"Existence: '{source}' cannot be read: {error}") from error
