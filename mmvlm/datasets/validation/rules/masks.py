"""Whether masks hold pixels of their picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from mmvlm.datasets.validation.rule import Rule, rule
from mmvlm.datasets.validation.specimen import Specimen
from mmvlm.structures.run_lengths import run_lengths

#: Pixels that a polygon may stand over the edge: corners are points, not pixels.
_SLACK = 1.0


@rule
class Masks(Rule):
    """Masks are not empty and lie inside of their picture."""

    name = "masks"
    order = 32
    claims = r"mask|polygon|\brle\b|run lengths|\bruns\b"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield faults of the masks of instances and regions, each once."""
        seen: set[str] = set()
        for name, size, polygons, rle in _masks(specimen):
            mark = repr((polygons, rle))
            if mark in seen:
                continue
            seen.add(mark)
            words = _rle_fault(rle, size) if rle is not None else None
            if rle is None and polygons:
                words = _polygon_fault(polygons, size)
            if words:
                yield f"'{name}': {words}."


def _masks(specimen: Specimen) -> Iterator[tuple]:
    """Yield (name, size of the picture, polygons, rle)."""
    annotation = specimen.annotation
    for number, item in enumerate(annotation.instances if annotation else ()):
        size = specimen.size_of(0) or annotation.size
        yield item.id or item.name or str(number), size, item.polygons, item.rle
    for region in specimen.regions:
        size = specimen.size_of(region.image) or region.boxes.size
        for polygons in region.polygons:
            yield region.phrase or "region", size, polygons, None
        for rle in region.rles:
            yield region.phrase or "region", size, (), rle


def _rle_fault(rle: Any, size: tuple[int, int] | None) -> str | None:
    try:
        runs = run_lengths(rle)
    except ValueError as error:
        return str(error).rstrip(".")
    if size is not None and tuple(rle["size"]) != tuple(size):
        height, width = rle["size"]
        return (
            f"a mask of {width} x {height} pixels for a picture of "
            f"{size[1]} x {size[0]}"
        )
    return None if runs[1::2].sum() else "the mask is empty"


def _polygon_fault(
    rings: Sequence[Sequence[float]], size: tuple[int, int] | None
) -> str | None:
    area = 0.0
    for ring in rings:
        points = np.asarray(ring, dtype=np.float64)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2:
            return f"a polygon of {points.size} numbers; three corners take six"
        if not np.isfinite(points).all():
            return "a polygon is not finite"
        x, y = points[::2], points[1::2]
        area += abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        if size is not None:
            high = max(x.max() - size[1], y.max() - size[0])
            if min(x.min(), y.min()) < -_SLACK or high > _SLACK:
                return f"a polygon leaves its picture of {size[1]} x {size[0]} pixels"
    return None if area > 0 else "the mask is empty"
