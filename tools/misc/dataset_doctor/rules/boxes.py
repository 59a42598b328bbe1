"""Whether boxes lie in their frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen

#: Pixels that rounding may add.
_SLACK = 1e-3


@rule
class BoxesInFrame(Rule):
    """Boxes are finite, have an extent and lie inside of their image."""

    name = "boxes"
    order = 30
    claims = r"\bbox(es)?\b|\bbbox\b"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield boxes of instances, then those of regions."""
        seen = set()
        annotation = specimen.annotation
        for number, item in enumerate(annotation.instances if annotation else ()):
            if item.box is not None:
                size = specimen.size_of(0) or annotation.size
                words = _fault(item.box, size)
                seen.add(tuple(item.box))
                if words:
                    name = item.id or item.name or number
                    yield f"instance '{name}': box {_short(item.box)} {words}."
        for region in specimen.regions:
            size = specimen.size_of(region.image) or region.boxes.size
            for box in _new(region.boxes.to("pixel").xyxy, seen):
                words = _fault(box, size, is_point=region.kind == "point")
                if words:
                    yield f"region '{region.phrase or ''}': box {_short(box)} {words}."


def _new(boxes: np.ndarray, seen: set) -> Iterator[tuple]:
    """Yield boxes that were not looked at as an instance's."""
    for box in map(tuple, boxes.tolist()):
        if box not in seen:
            yield box


def _fault(
    box: Sequence[float], size: tuple[int, int] | None, is_point: bool = False
) -> str | None:
    """Say what is wrong with a box, None when nothing is."""
    x1, y1, x2, y2 = map(float, box)
    if not np.isfinite((x1, y1, x2, y2)).all():
        return "is not finite"
    if not is_point and (x2 <= x1 or y2 <= y1):
        return "has no extent"
    if size is not None:
        height, width = size
        low, high = min(x1, y1), max(x2 - width, y2 - height)
        if low < -_SLACK or high > _SLACK:
            return f"leaves its image of {width} x {height} pixels"
    return None


def _short(box: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
