"""Phrase grounding: recall of boxes for the phrases of captions (Flickr30k Entities).

Source: the recall evaluator of MDETR (ashkamath/mdetr), which apple/ml-ferret's
``ferret/eval/eval_flickr_entities.py`` and Kosmos-2 use.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmvlm.text.codecs import ferret

from .boxes import Box, box_iou, enclosing_box

#: Numbers of boxes that recall looks at; -1: all.
TOP = (1, 5, 10, -1)
MIN_IOU = 0.5
_NOWHERE = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class PhraseTarget:
    """A phrase and where it is.

    Args:
        boxes (tuple[Box, ...]): of its entity, at least one, in pixels.
        types (tuple[str, ...]): categories in which it counts, each once per mention.
        phrase (str): the words.
    """

    boxes: tuple[Box, ...]
    types: tuple[str, ...] = ()
    phrase: str = ""

    def merged(self) -> PhraseTarget:
        """Return the phrase with one box around all of its own (MERGED-BOXES)."""
        return PhraseTarget((enclosing_box(self.boxes),), self.types, self.phrase)


def phrase_hits(
    boxes: Sequence[Box], target: PhraseTarget, top: Sequence[int] = TOP
) -> dict[int, bool]:
    """Tell for each k whether one of the first k boxes meets a box of the phrase.

    Args:
        boxes (Sequence[Box]): predicted, best first; may be empty.
        target (PhraseTarget): what is right.
        top (Sequence[int]): values of k; -1: all boxes.
    """
    right = [
        any(box_iou(box, goal, "float64") >= MIN_IOU for goal in target.boxes)
        for box in boxes
    ]
    return {k: any(right if k == -1 else right[:k]) for k in top}


def recall_table(
    hits: Iterable[tuple[PhraseTarget, dict[int, bool]]],
) -> dict[int, dict[str, float]]:
    """Return recall by k and category.

    Args:
        hits (Iterable): phrases, each with its verdicts (:func:`phrase_hits`).

    Returns:
        dict: by k, by ``all`` and type, a fraction; types without a phrase are
        missing.
    """
    right: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    total: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for target, found in hits:
        for k, is_right in found.items():
            for category in ("all", *target.types):
                total[k][category] += 1
                right[k][category] += is_right
    return {
        k: {category: right[k][category] / n for category, n in counts.items()}
        for k, counts in total.items()
    }


def sentence_recall(
    predictions: Iterable[tuple[str, Sequence[Sequence[Box]]]],
    targets: dict[str, Sequence[PhraseTarget]],
    *,
    merge: bool = False,
    top: Sequence[int] = TOP,
) -> dict[int, dict[str, float]]:
    """Return the recall of boxes that were predicted phrase by phrase.

    Args:
        predictions (Iterable): id of a sentence, and per phrase its boxes, best
            first. A second prediction of a sentence, and one of a sentence without
            targets, do not count.
        targets (dict[str, Sequence[PhraseTarget]]): by the id of the sentence.
        merge (bool): MERGED-BOXES; otherwise ANY-BOX.
        top (Sequence[int]): see :func:`phrase_hits`.

    Raises:
        ValueError: naming a sentence whose phrases are not as many as its lists of
            boxes, or sentences without prediction.
    """
    seen: dict[str, list] = {}
    for name, lists in predictions:
        if name in seen or name not in targets:
            continue
        goals = [t.merged() if merge else t for t in targets[name]]
        if len(lists) != len(goals):
            raise ValueError(
                f"sentence {name}: {len(lists)} lists of boxes for {len(goals)} "
                "phrases."
            )
        pairs = zip(lists, goals, strict=True)
        seen[name] = [(goal, phrase_hits(boxes, goal, top)) for boxes, goal in pairs]
    missing = sorted(set(targets) - set(seen))
    if missing:
        raise ValueError(
            f"no prediction for {len(missing)} sentences: {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}."
        )
    return recall_table(hit for hits in seen.values() for hit in hits)


def same_phrase(first: str, second: str) -> bool:
    """Tell whether two phrases are equal without case, punctuation and extra spaces.

    Example:
        >>> same_phrase("A man, in red", "a man in red")
        True
    """
    return _plain(first) == _plain(second)


def _plain(phrase: str) -> str:
    phrase = re.sub(r"\s*(['\",.;!?|:])\s*", r"\1 ", phrase.lower())
    return " ".join(re.sub(r"[^\w\s]", "", phrase).split())


def boxes_of_phrase(text: str, phrase: str, size: tuple[int, int]) -> list[Box]:
    """Return the boxes that a caption grounds a phrase with, as Ferret's code does.

    Args:
        text (str): the caption, its entities followed by their boxes in thousandths.
        phrase (str): the words looked for.
        size (tuple[int, int]): height and width of the image.

    Returns:
        list[Box]: whole pixels; the zero box alone where the caption does not have
        the phrase or cannot be read.
    """
    try:
        names, boxes = ferret.eval_entities(text, size)
    except (ValueError, IndexError, OverflowError):
        names, boxes = [], []
    own = [b for n, b in zip(names, boxes, strict=True) if same_phrase(n, phrase)]
    return own or [_NOWHERE]
