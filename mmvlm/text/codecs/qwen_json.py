"""Qwen2.5-VL and Qwen3-VL: boxes and points as JSON objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Region

from .base import Decoding, Found, GroundingCodec, Problem, points_or_boxes

_OBJECT = re.compile(r"\{[^{}]*\}")
_KEYS = {"bbox_2d": ("box", 4), "point_2d": ("point", 2)}


@CODECS.register_module()
class QwenJSONCodec(GroundingCodec):
    """``{"bbox_2d": [120, 304, 550, 871], "label": "a dog"}``, joined by commas.

    Numbers are whole pixels of the image as the model sees it (geometry ``view``,
    Qwen2.5-VL), or thousandths of its sides (``stretch``, Qwen3-VL).
    Points are ``point_2d``. Objects are read wherever they stand: in a list, in a
    fenced block, in a sentence; further keys are left alone.

    Source: QwenLM/Qwen3-VL: cookbooks/2d_grounding.ipynb. Paper: Bai et al.,
    "Qwen2.5-VL Technical Report", 2025, arXiv 2502.13923.

    Args:
        geometry (str): see above.
    """

    kinds = ("box", "point", "mask")
    geometries: ClassVar[tuple[str, ...]] = ("view", "stretch")
    suspect = re.compile("(?:bbox|point)_")

    def __init__(self, geometry: str = "view") -> None:
        super().__init__(geometry)

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        if self.geometry == "stretch":
            return 0.0005
        return 0.5 / min(self.view_size(0, size))

    def encode(self, region: Region, role: str = "assistant") -> str:
        """Return a region as text; its phrase is the label of every object."""
        if region.phrase and len(region.boxes) and region.kind in self.kinds:
            return self._objects(region, region.phrase)
        return super().encode(region, role)

    def _write(self, region: Region, role: str) -> str:
        return self._objects(region, None)

    def _objects(self, region: Region, label: str | None) -> str:
        unit = points_or_boxes(region, self.to_frame(region.boxes))
        scale = self._scale(region.image, region.boxes.size)[: unit.shape[1]]
        key = "point_2d" if region.kind == "point" else "bbox_2d"
        named = {} if label is None else {"label": label}
        return ", ".join(
            json.dumps({key: row, **named}, ensure_ascii=False)
            for row in np.rint(unit * scale).astype(int).tolist()
        )

    def _decode(self, text: str, size: tuple[int, int]) -> Decoding:
        shown = self if self.views else self.shown_as([size])
        return GroundingCodec._decode(shown, text, size)

    def _scale(self, image: int, size: tuple[int, int]) -> np.ndarray:
        """Return what fractions of the sides are multiplied by."""
        if self.geometry == "stretch":
            return np.full(4, 1000.0)
        height, width = self.view_size(image, size)
        return np.array([width, height] * 2, dtype=np.float64)

    def _read(self, text: str) -> Iterable[Found | Problem]:
        for match in _OBJECT.finditer(text):
            key = next((key for key in _KEYS if f'"{key}"' in match[0]), None)
            if key is None:
                continue
            kind, count = _KEYS[key]
            row, label = _values(match[0], key)
            if len(row) != count:
                reason = f"no {kind}: {match[0][:60]!r}"
                yield Problem(match.start(), reason, match.end())
            else:
                unit = np.array(row) / self._scale(0, (1, 1))[:count]
                yield Found(*match.span(), [unit.tolist()], kind, label)


def _values(text: str, key: str) -> tuple[list[float], str | None]:
    """Return the numbers under a key and the label of an object; none where damaged."""
    try:
        found = json.loads(text)
        row = [float(value) for value in found[key]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return [], None
    label = found.get("label")
    return row, label if isinstance(label, str) else None
