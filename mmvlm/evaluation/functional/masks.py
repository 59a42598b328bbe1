"""Overlap of masks, gIoU and cIoU, as LISA's evaluation defines them.

Masks are COCO's run lengths ``{"size": [h, w], "counts"}``, which are compared as they
are: a run, not a pixel, is the unit of work. Arrays of pixels have a function of their
own, which also knows the official rule for pixels that several rings cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from mmvlm.structures.masks import empty_rle

#: Value of pixels that are not scored.
IGNORE_INDEX = 255
#: What the official code adds to a union, to the number of masks, and to all unions.
_UNION_EPS, _COUNT_EPS, _TOTAL_EPS = 1e-5, 1e-5, 1e-10
#: Rules for pixels that several rings of a reference cover.
OVERLAPS = ("union", "official")


class MaskOverlap(NamedTuple):
    """Pixels of two masks together.

    Args:
        intersection (int): in both.
        union (int): in one or both.
    """

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """Their IoU, 1 where neither mask has a pixel; see :func:`mask_ious`."""
        return float(mask_ious(np.array([self]))[0])


def rle_overlap(
    prediction: dict, reference: dict, ignore: dict | None = None
) -> MaskOverlap:
    """Return the overlap of two masks without making their pixels.

    Args:
        prediction (dict): checked run lengths (``mmvlm.structures.masks.check_rle``).
        reference (dict): likewise.
        ignore (dict | None): pixels that are not scored.

    Raises:
        ValueError: for masks of different sizes.
    """
    masks = [prediction, reference] + ([] if ignore is None else [ignore])
    sizes = [tuple(mask["size"]) for mask in masks]
    if len(set(sizes)) > 1:
        names = ("prediction", "reference", "ignore")
        found = ", ".join(f"{n} {s}" for n, s in zip(names, sizes, strict=False))
        raise ValueError(f"masks of different sizes (height, width): {found}.")
    both = coco_mask.merge(masks[:2], intersect=True)
    one, other, inside = map(int, coco_mask.area([*masks[:2], both]))
    if ignore is not None:
        lost = [coco_mask.merge([m, ignore], intersect=True) for m in masks[:2]]
        lost.append(coco_mask.merge([both, ignore], intersect=True))
        less = coco_mask.area(lost)
        one, other, inside = (
            int(a - b) for a, b in zip((one, other, inside), less, strict=True)
        )
    return MaskOverlap(inside, one + other - inside)


def pixel_overlap(
    prediction: np.ndarray, reference: np.ndarray, *, overlap: str = "union"
) -> MaskOverlap:
    """Return the overlap of two masks of pixels.

    Args:
        prediction (np.ndarray): what is not zero belongs to the mask.
        reference (np.ndarray): 0; 1 or more: by how many rings a pixel is covered;
            255: not scored.
        overlap (str): pixels under several rings: ``union``: they belong to the
            mask; ``official``: the official histogram has no bin for them, so that
            they are no reference but count as predicted where they are.

    Shape:
        - ``prediction``, ``reference``: (H, W)

    Raises:
        ValueError: for masks of different sizes, or another ``overlap``.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"masks of different sizes (height, width): prediction {prediction.shape}, "
            f"reference {reference.shape}."
        )
    if overlap not in OVERLAPS:
        raise ValueError(f"overlap='{overlap}', expected one of {list(OVERLAPS)}.")
    scored = reference != IGNORE_INDEX
    chosen = (prediction != 0) & scored
    true = reference == 1 if overlap == "official" else (reference != 0) & scored
    inside = int(np.count_nonzero(chosen & true))
    total = int(np.count_nonzero(chosen)) + int(np.count_nonzero(true))
    return MaskOverlap(inside, total - inside)


def mask_ious(overlaps: Sequence[MaskOverlap] | np.ndarray) -> np.ndarray:
    """Return the IoU of every pair of masks: 1 where neither has a pixel.

    Shape:
        - ``overlaps``: (K, 2), intersections and unions
        - output: (K,), float64
    """
    inside, union = np.asarray(overlaps, dtype=np.float64).reshape(-1, 2).T
    return np.where(union == 0, 1.0, inside / (union + _UNION_EPS))


def giou(overlaps: Sequence[MaskOverlap] | np.ndarray, *, exact: bool = True) -> float:
    """Return the mean IoU over masks; 0 without any.

    Args:
        overlaps (Sequence[MaskOverlap] | np.ndarray): see :func:`mask_ious`.
        exact (bool): False adds 1e-5 to the number of masks, as the official code.
    """
    ious = mask_ious(overlaps)
    if not len(ious):
        return 0.0
    return float(ious.sum() / (len(ious) + (0.0 if exact else _COUNT_EPS)))


def ciou(overlaps: Sequence[MaskOverlap] | np.ndarray) -> float:
    """Return the intersection over the union of all masks together; 0 without any."""
    inside, union = np.asarray(overlaps, dtype=np.float64).reshape(-1, 2).sum(axis=0)
    return float(inside / (union + _TOTAL_EPS))


def rings_rle(
    rings: Sequence[Sequence[float]], size: Sequence[int], *, overlap: str = "union"
) -> dict:
    """Return the run lengths of the pixels that rings cover.

    Args:
        rings (Sequence[Sequence[float]]): flat ``x, y, x, y, ...`` in pixels.
        size (Sequence[int]): height and width.
        overlap (str): see :func:`pixel_overlap`; ``official`` keeps pixels that one
            ring alone covers.

    Raises:
        ValueError: for another ``overlap``.
    """
    if overlap not in OVERLAPS:
        raise ValueError(f"overlap='{overlap}', expected one of {list(OVERLAPS)}.")
    height, width = map(int, size)
    drawn = coco_mask.frPyObjects([list(ring) for ring in rings], height, width)
    if overlap == "official" and len(drawn) > 1:
        covered = coco_mask.decode(drawn).sum(axis=2, dtype=np.int32)
        once = coco_mask.encode(np.asfortranarray(covered == 1, dtype=np.uint8))
    else:
        once = coco_mask.merge(drawn)
    return {"size": [height, width], "counts": once["counts"].decode("ascii")}


class ReplyOverlaps(NamedTuple):
    """How the masks of a reply overlap with those that were asked for.

    Args:
        overlaps (list[MaskOverlap]): one per reference; a mask that the reply lacks
            is empty.
        found (list[bool]): whether the reply has a mask for each reference.
        surplus (int): masks beyond the references, which are not scored.
    """

    overlaps: list[MaskOverlap]
    found: list[bool]
    surplus: int


def reply_overlaps(
    predictions: Sequence[dict | None],
    references: Sequence[dict],
    ignore: dict | None = None,
) -> ReplyOverlaps:
    """Score the masks of a reply in the order in which they are said.

    Args:
        predictions (Sequence[dict | None]): checked run lengths; None for a mask that
            could not be made.
        references (Sequence[dict]): likewise.
        ignore (dict | None): pixels that are not scored.

    Raises:
        ValueError: for masks of different sizes.
    """
    overlaps, found = [], []
    for number, reference in enumerate(references):
        mask = predictions[number] if number < len(predictions) else None
        found.append(mask is not None)
        mask = empty_rle(tuple(reference["size"])) if mask is None else mask
        overlaps.append(rle_overlap(mask, reference, ignore))
    return ReplyOverlaps(overlaps, found, max(0, len(predictions) - len(references)))


def mask_totals(
    overlaps: Sequence[MaskOverlap], found: Sequence[bool]
) -> dict[str, float]:
    """Return the numbers of a set of masks, fractions 0-1.

    Args:
        overlaps (Sequence[MaskOverlap]): one per reference.
        found (Sequence[bool]): whether the reply has such a mask.

    Returns:
        dict: ``giou`` and ``ciou`` of all, where a mask that is not said is empty;
        ``giou_lenient`` and ``ciou_lenient`` of the masks that were said; ``said``,
        their share; ``parse_failures``, how many were not; ``num``.
    """
    rows = np.asarray(overlaps, dtype=np.float64).reshape(-1, 2)
    kept = np.asarray(found, dtype=bool)
    return dict(
        giou=giou(rows),
        ciou=ciou(rows),
        giou_lenient=giou(rows[kept]),
        ciou_lenient=ciou(rows[kept]),
        said=float(kept.mean()) if len(kept) else 0.0,
        parse_failures=int((~kept).sum()),
        num=len(kept),
    )
