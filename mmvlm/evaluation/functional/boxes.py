"""Overlap of two boxes, as public evaluations compute it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Box = Sequence[float]
#: Thresholds of an IoU curve, those of COCO's average precision.
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def box_iou(first: Box, second: Box, dtype: str = "float32") -> float:
    """Return intersection over union, of numbers as torchvision computes them.

    Args:
        first (Sequence[float]): x1, y1, x2, y2.
        second (Sequence[float]): likewise, in the same frame.
        dtype (str): of the arithmetic, which decides next to a threshold.

    Returns:
        float: 0 to 1; 0 for boxes without area.
    """
    a, b = (np.asarray(box, dtype=dtype) for box in (first, second))
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    inter = sides.prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter
    return float(inter / union) if union > 0 else 0.0


def ofa_iou(first: Box, second: Box) -> float:
    """Return OFA's: a millionth is added to the union, which float32 mostly loses."""
    a, b = (np.asarray(box, dtype=np.float32) for box in (first, second))
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if not (sides > 0).all():
        return 0.0
    inter = sides.prod()
    areas = [(box[2:] - box[:2]).prod() for box in (a, b)]
    return float(inter / (areas[0] + areas[1] - inter + np.float32(1e-6)))


def pink_iou(first: Box, second: Box) -> float:
    """Return PINK's: boxes meet from more than a pixel on, areas are plain ones."""
    sides = [
        min(first[axis + 2], second[axis + 2]) - 1 - max(first[axis], second[axis])
        for axis in (0, 1)
    ]
    if min(sides) <= 0:
        return 0.0
    inter = (sides[0] + 1) * (sides[1] + 1)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(areas) - inter
    return inter / union if union > 0 else 0.0


def whole_pixel_iou(first: Box, second: Box) -> float:
    """Return xtuner's: both ends belong to a box, so each side is one longer."""
    sides = [
        max(0, min(first[i + 2], second[i + 2]) - max(first[i], second[i]) + 1)
        for i in (0, 1)
    ]
    inter = sides[0] * sides[1]
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (first, second)]
    union = sum(areas) - inter
    return inter / union if union > 0 else 0.0


def enclosing_box(boxes: Sequence[Box]) -> list[float]:
    """Return the smallest box around all boxes, of which there is at least one."""
    rows = np.asarray(boxes, dtype=np.float64)
    return [*rows[:, :2].min(axis=0).tolist(), *rows[:, 2:].max(axis=0).tolist()]


def iou_curve(
    ious: Sequence[float], thresholds: Sequence[float] = IOU_THRESHOLDS
) -> dict[float, float]:
    """Return the share of boxes whose IoU reaches each threshold; 0 without any.

    Example:
        >>> iou_curve([0.4, 0.6, 0.9], [0.5, 0.75])
        {0.5: 0.6666666666666666, 0.75: 0.3333333333333333}
    """
    found = np.asarray(ious, dtype=np.float64)
    shares = [float((found >= one).mean()) if len(found) else 0.0 for one in thresholds]
    return dict(zip(thresholds, shares, strict=True))
