"""Masks of expressions that may mean several things or none, as GRES scores them.

Paper: Liu et al., "GRES: Generalized Referring Expression Segmentation", CVPR 2023,
arXiv 2306.00968.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .intervals import ratio
from .masks import rle_overlap

#: IoUs at which the precision over expressions with targets is reported.
PRECISIONS = (0.7, 0.8, 0.9)


class GeneralizedVerdict(NamedTuple):
    """What one expression adds to a set.

    Args:
        iou (float): 1 where both say that there is nothing, 0 where one alone does.
        intersection (int): pixels, of an expression with targets that were found.
        union (int): pixels; 0 where both say that there is nothing.
        has_target (bool): whether the expression means anything.
        is_right (bool): whether the answer says so too.
    """

    iou: float
    intersection: int
    union: int
    has_target: bool
    is_right: bool


def judge_generalized(
    prediction: dict, reference: dict, *, says_none: bool | None = None
) -> GeneralizedVerdict:
    """Return the official verdict on one mask.

    Args:
        prediction (dict): checked run lengths of all that the answer marks.
        reference (dict): likewise, of all targets; without a pixel: there is none.
        says_none (bool | None): whether the answer says that there is nothing, as a
            model with a classifier does beside its mask; None: its mask is empty.

    Raises:
        ValueError: for masks of different sizes.
    """
    inside, union = rle_overlap(prediction, reference)
    nothing = rle_overlap(reference, reference).union == 0
    if says_none is None:
        says_none = rle_overlap(prediction, prediction).union == 0
    if nothing:
        return GeneralizedVerdict(
            float(says_none), 0, 0 if says_none else union, False, says_none
        )
    inside = 0 if says_none else inside
    iou = inside / union if union else 0.0
    return GeneralizedVerdict(iou, inside, union, True, not says_none)


#: Columns of :func:`generalized_units`.
_IOU, _ONE, _INSIDE, _UNION, _TARGET, _NONE, _KEPT, _DENIED = range(8)


def generalized_units(verdicts: Sequence[GeneralizedVerdict]) -> np.ndarray:
    """Return additive numbers of verdicts.

    Shape:
        - output: (N, 11), float64: IoU, 1, intersection, union, has targets, has
          none, targets not denied, rightly denied, and IoU >= 0.7, 0.8, 0.9 with
          targets
    """
    rows = np.zeros((len(verdicts), 8 + len(PRECISIONS)))
    for row, one in zip(rows, verdicts, strict=True):
        row[:4] = one.iou, 1, one.intersection, one.union
        row[_TARGET if one.has_target else _NONE] = 1
        row[_KEPT if one.has_target else _DENIED] = one.is_right
        row[8:] = [one.has_target and one.iou >= level for level in PRECISIONS]
    return rows


def generalized_ratio(sums: np.ndarray, name: str) -> np.ndarray:
    """Return one number of summed units, a fraction 0-1; 0 of nothing.

    Args:
        sums (np.ndarray): (..., 11), sums of :func:`generalized_units`.
        name (str): ``giou``, ``ciou``, ``n_acc`` (of the expressions without a target,
            those whose answer says so), ``t_acc`` (of those with targets, those whose
            answer does not deny them) or ``pr@0.7``, ``pr@0.8``, ``pr@0.9``.
    """
    columns = {
        "giou": (_IOU, _ONE),
        "ciou": (_INSIDE, _UNION),
        "n_acc": (_DENIED, _NONE),
        "t_acc": (_KEPT, _TARGET),
        **{f"pr@{t}": (8 + n, _TARGET) for n, t in enumerate(PRECISIONS)},
    }
    top, bottom = columns[name]
    return ratio(sums[..., top], sums[..., bottom])


def generalized_totals(verdicts: Sequence[GeneralizedVerdict]) -> dict[str, float]:
    """Return gIoU, cIoU, N-acc, T-acc and precisions of a set, fractions 0-1.

    As in the official code, N-acc and T-acc are 0 in a set where every expression has a
    target.
    """
    sums = generalized_units(verdicts).sum(axis=0)
    names = ["giou", "ciou", "n_acc", "t_acc", *(f"pr@{t}" for t in PRECISIONS)]
    found = {name: float(generalized_ratio(sums, name)) for name in names}
    if not sums[_NONE]:
        found.update(n_acc=0.0, t_acc=0.0)
    return found
