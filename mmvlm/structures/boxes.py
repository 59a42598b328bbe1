"""Boxes that know their frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Frame = Literal["pixel", "unit", "thousand"]


@dataclass(frozen=True)
class Boxes:
    """Boxes ``x1, y1, x2, y2`` with the frame that their numbers live in.

    Args:
        xyxy (np.ndarray): (K, 4) float64.
        size (tuple[int, int]): height and width in pixels of the image that
            the boxes lie in.
        frame (str): ``pixel`` (0 .. width), ``unit`` (0 .. 1) or ``thousand``
            (0 .. 1000).
    """

    xyxy: np.ndarray
    size: tuple[int, int]
    frame: Frame = "pixel"

    def __post_init__(self) -> None:
        array = np.asarray(self.xyxy, dtype=np.float64).reshape(-1, 4)
        if not np.isfinite(array).all():
            raise ValueError(f"boxes hold NaN or infinity: {array.tolist()}")
        object.__setattr__(self, "xyxy", array)

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def _extent(self) -> np.ndarray:
        height, width = self.size
        scale = {"pixel": (width, height), "unit": (1, 1), "thousand": (1000, 1000)}
        if self.frame not in scale:
            raise ValueError(
                f"unknown box frame '{self.frame}', expected {list(scale)}"
            )
        return np.array(scale[self.frame] * 2, dtype=np.float64)

    def to(self, frame: Frame) -> Boxes:
        """Return the same boxes with their numbers in another frame.

        In their own frame they are these boxes, to the last bit.
        """
        if frame == self.frame and frame in get_args(Frame):
            return self
        unit = Boxes(self.xyxy / self._extent, self.size, "unit")
        return Boxes(
            unit.xyxy * Boxes(unit.xyxy, self.size, frame)._extent, self.size, frame
        )

    def pad_to_square(self) -> Boxes:
        """Return the boxes in the centred square that holds the image.

        The offset is ``(side - short) // 2``, as LLaVA's expand2square pads.
        """
        (height, width), side = self.size, max(self.size)
        shift = np.array([(side - width) // 2, (side - height) // 2] * 2)
        return Boxes(self.to("pixel").xyxy + shift, (side, side)).to(self.frame)

    def unpad_from_square(self, size: tuple[int, int]) -> Boxes:
        """Undo :meth:`pad_to_square` for an image of ``size`` (height, width)."""
        height, width = size
        side = max(size)
        if self.size != (side, side):
            raise ValueError(
                f"boxes lie in {self.size}, not in a square of side {side}."
            )
        shift = np.array([(side - width) // 2, (side - height) // 2] * 2)
        return Boxes(self.to("pixel").xyxy - shift, size).to(self.frame)

    def clip(self) -> Boxes:
        """Return the boxes cut to the image."""
        extent = self._extent
        return Boxes(np.clip(self.xyxy, 0, extent), self.size, self.frame)

    def iou(self, other: Boxes) -> np.ndarray:
        """Intersection over union, (K, M), of boxes in images of one size."""
        a, b = self.to("pixel").xyxy[:, None], other.to("pixel").xyxy[None]
        low, high = (
            np.maximum(a[..., :2], b[..., :2]),
            np.minimum(a[..., 2:], b[..., 2:]),
        )
        inter = np.clip(high - low, 0, None).prod(-1)
        area_a = np.clip(a[..., 2:] - a[..., :2], 0, None).prod(-1)
        area_b = np.clip(b[..., 2:] - b[..., :2], 0, None).prod(-1)
        union = area_a + area_b - inter
        return np.where(union > 0, inter / np.where(union > 0, union, 1), 0.0)
