"""Whether masks hold pixels of their image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen
from mmvlm.structures.masks import (
    check_polygons,
    check_rle,
    polygons_to_rle,
    rle_area,
)

#: Pixels that a polygon may stand over the edge: corners are points, not pixels.
_SLACK = 1.0


@rule
class Masks(Rule):
    """Masks are not empty and lie inside of their image."""

    name = "masks"
    order = 32
    claims = r"(?i)\bmask|polygon|\brles?\b|run lengths"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield faults of the masks of instances and regions, each once."""
        seen: set[str] = set()
        for name, size, polygons, rle in _masks(specimen):
            mark = repr((polygons, rle))
            if mark in seen:
                continue
            seen.add(mark)
            words = None
            if size is not None and rle is not None:
                words = _rle_fault(rle, size)
            elif size is not None and polygons:
                words = _polygon_fault(polygons, size)
            if words:
                yield f"'{name}': {words}."


def _masks(specimen: Specimen) -> Iterator[tuple]:
    """Yield (name, size of the image, polygons, rle)."""
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


def _rle_fault(rle: Any, size: tuple[int, int]) -> str | None:
    try:
        whole = check_rle(rle, size)
    except ValueError as error:
        return str(error).rstrip(".")
    return None if rle_area(whole) else "the mask is empty"


def _polygon_fault(rings: Sequence, size: tuple[int, int]) -> str | None:
    try:
        whole = check_polygons(rings, size)
    except ValueError as error:
        return str(error).rstrip(".")
    height, width = size
    for ring in whole:
        high = max(max(ring[::2]) - width, max(ring[1::2]) - height)
        if min(ring) < -_SLACK or high > _SLACK:
            return f"a polygon leaves its image of {width} x {height} pixels"
    return None if rle_area(polygons_to_rle(whole, size)) else "the mask is empty"
