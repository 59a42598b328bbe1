"""A random part of an image as its view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout

from .image import ViewTransform, as_view


@TRANSFORMS.register_module()
class RandomResizedCropSquare(ViewTransform):
    """Cut a random rectangle out and resize it to the square.

    Args:
        scale (Sequence[float]): smallest and largest share of the area.
        ratio (Sequence[float]): smallest and largest width by height.
        **kwargs: see :class:`ViewTransform`.
    """

    frame = "crop"

    def __init__(
        self,
        scale: Sequence[float] = (0.9, 1.0),
        ratio: Sequence[float] = (0.75, 1.3333),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scale, self.ratio = tuple(scale), tuple(ratio)

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return one view; see :meth:`ViewTransform.view`.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (1, 3, size, size), uint8

        Raises:
            ValueError: without ``rng``.
        """
        box = self._box(*image.shape[:2], rng)
        top, left, height, width = box
        part = image[top : top + height, left : left + width]
        view = as_view(self._resize(part, self.size, self.size))
        return view, self._layout_of(image.shape[:2], box)

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        return self._layout_of((height, width), self._box(height, width, rng))

    def _layout_of(
        self, original: tuple[int, int], box: tuple[int, int, int, int]
    ) -> ViewLayout:
        top, left, height, width = box
        scale = (self.size / width, self.size / height)
        return ViewLayout(
            original_size=original,
            view_size=(self.size, self.size),
            kind="crop",
            scale=scale,
            offset=(-left * scale[0], -top * scale[1]),
        )

    def _box(
        self, height: int, width: int, rng: np.random.Generator | None
    ) -> tuple[int, int, int, int]:
        """Draw up to ten rectangles; without a fitting one, the middle."""
        if rng is None:
            raise ValueError("RandomResizedCropSquare needs the item's 'rng'.")
        low, high = np.log(self.ratio)
        for _ in range(10):
            area = height * width * rng.uniform(*self.scale)
            ratio = np.exp(rng.uniform(low, high))
            w, h = (
                round(float(np.sqrt(area * ratio))),
                round(float(np.sqrt(area / ratio))),
            )
            if 0 < w <= width and 0 < h <= height:
                top = int(rng.integers(height - h + 1))
                return top, int(rng.integers(width - w + 1)), h, w
        w = min(width, round(height * self.ratio[1]))
        h = min(height, round(width / self.ratio[0]))
        return (height - h) // 2, (width - w) // 2, h, w
