"""How two things are related, or what stands in a relation to one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Instance, Relation, Text, Turn
from mmvlm.structures.conversation import Part

from .base import DataTask, NothingToAsk, region
from .draws import Draws, draws_of
from .selecting import boxes_and_names
from .templates import TemplatePool

BETWEEN = (
    "How are <object1> and <object2> related?",
    "What links <object1> to <object2>?",
    "Given <object1> and <object2>, what is between them?",
    "Say how <object1> relates to <object2>.",
)
BOXES = (
    "Which boxes hold what <object> is <relation>?",
    "Where is what <object> is <relation>? Give boxes.",
    "Mark all that <object> is <relation>.",
)
NAMES = (
    "What is it that <object> is <relation>? Give names only.",
    "Name everything that <object> is <relation>.",
    "List what <object> is <relation>, by name.",
)
BOTH = (
    "What is it that <object> is <relation>? Give boxes and names.",
    "Mark and name all that <object> is <relation>.",
    "List what <object> is <relation>, each with its box.",
)
#: Predicates that say little and are most of Visual Genome.
COMMON = ("on", "has", "wearing", "of", "in")
_MAX_DRAWS = 100


@DATA_TASKS.register_module()
class RelationQuestion(DataTask):
    """PINK's relation task: four forms, equally likely.

    1. Two boxes are given, ``Object1 is {predicate} object2`` is the answer. 2-4. A
    subject's box and a predicate are given; the answer is the boxes, the names, or
    boxes and names of all objects in that relation to that subject, small boxes
    first. A triple with a common predicate is kept with probability
    ``common_share``, otherwise drawn again, a hundred times at most.

    Needs: relations between instances with boxes (and names, for forms 3 and 4).

    Args:
        between (str | Sequence[str]): wordings of form 1, with ``<object1>`` and
            ``<object2>``.
        boxes (str | Sequence[str]): of form 2, with ``<relation>`` and ``<object>``.
        names (str | Sequence[str]): of form 3.
        both (str | Sequence[str]): of form 4.
        forms (Sequence[int]): forms to draw from, 1 to 4.
        common (Collection[str]): predicates that are mostly drawn again.
        common_share (float): how often one of them is kept, 0 to 1.
        unique (bool): name an object once, though its triple stands in the file
            twice; PINK's code repeats it.

    Raises:
        ValueError: for an unknown form.
    """

    needs = ("relations", "instances.box")

    def __init__(
        self,
        between: str | Sequence[str] = BETWEEN,
        boxes: str | Sequence[str] = BOXES,
        names: str | Sequence[str] = NAMES,
        both: str | Sequence[str] = BOTH,
        *,
        forms: Sequence[int] = (1, 2, 3, 4),
        common: Collection[str] = COMMON,
        common_share: float = 0.2,
        unique: bool = True,
    ) -> None:
        if not forms or not set(forms) <= {1, 2, 3, 4}:
            raise ValueError(f"RelationQuestion: forms={list(forms)}, expected 1 to 4.")
        self.between = TemplatePool(between, ["object1", "object2"])
        holes = ["relation", "object"]
        self.pools = {
            2: TemplatePool(boxes, holes),
            3: TemplatePool(names, holes),
            4: TemplatePool(both, holes),
        }
        self.forms = tuple(forms)
        self.common = frozenset(common)
        self.common_share = common_share
        self.unique = unique

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question about a relation and its answer."""
        draws = draws_of(rng)
        form = self.forms[draws.integer(len(self.forms))]
        triples = _usable(annotation, named=form in (3, 4))
        if not triples:
            raise NothingToAsk("no relation between things with boxes.")
        triple = self._draw(triples, draws)
        things, size = annotation.instances, annotation.size
        subject = things[triple.subject]
        if form == 1:
            question = self.between.draw(
                draws,
                object1=_labelled("object1", subject, size),
                object2=_labelled("object2", things[triple.object], size),
            )
            answer: tuple[Part, ...] = (Text(f"Object1 is {triple.predicate} object2"),)
        else:
            known = (triple.subject, triple.predicate)
            same = [t for t in triples if (t.subject, t.predicate) == known]
            indices = [t.object for t in same]
            indices = list(dict.fromkeys(indices)) if self.unique else indices
            question = self.pools[form].draw(
                draws,
                relation=Text(triple.predicate, "predicate"),
                object=region([subject], size),
            )
            answer = boxes_and_names(
                [things[index] for index in indices],
                size,
                boxes=form != 3,
                names=form != 2,
            )
        return [Turn("user", question), Turn("assistant", answer)]

    def _draw(self, triples: list[Relation], draws: Draws) -> Relation:
        for _ in range(_MAX_DRAWS):
            triple = draws.choice(triples)
            if triple.predicate not in self.common:
                break
            if draws.chance() < self.common_share:
                break
        return triple


def _usable(annotation: AnnotatedImage, named: bool) -> list[Relation]:
    """Return relations whose ends have boxes (and whose objects have names).

    Raises:
        ValueError: for an end that is no instance, or an unknown image size.
    """
    things = annotation.instances
    found = []
    for relation in annotation.relations:
        ends = (relation.subject, relation.object)
        wrong = [end for end in ends if not 0 <= end < len(things)]
        if wrong:
            raise ValueError(
                f"relation '{relation.predicate}' names instances {wrong}, but there "
                f"are {len(things)}."
            )
        whole = all(things[e].box is not None and not things[e].is_crowd for e in ends)
        if whole and (things[relation.object].name.strip() or not named):
            found.append(relation)
    if found and annotation.size is None:
        raise ValueError("relations between boxes, but the image's size is unknown.")
    return found


def _labelled(label: str, item: Instance, size: tuple[int, int]) -> tuple[Part, ...]:
    return (Text(f"{label}: "), region([item], size))
