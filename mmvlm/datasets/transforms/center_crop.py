"""CLIP's own view: the middle square of the resized image."""

from __future__ import annotations

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout

from .image import ViewTransform, as_view


@TRANSFORMS.register_module()
class CenterCropSquare(ViewTransform):
    """Resize the shorter edge to the size, then cut the middle square out.

    CLIP's own preprocessing, and so LLaVA-1.5's stage 1.
    """

    frame = "crop"

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return one view: (H, W, 3) to (1, 3, size, size), uint8."""
        new_height, new_width, top, left = self._fit(*image.shape[:2])
        resized = self._resize(image, new_width, new_height)
        view = resized[top : top + self.size, left : left + self.size]
        return as_view(view), self.layout(*image.shape[:2])

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        new_height, new_width, top, left = self._fit(height, width)
        return ViewLayout(
            original_size=(height, width),
            view_size=(self.size, self.size),
            kind="crop",
            scale=(new_width / width, new_height / height),
            offset=(float(-left), float(-top)),
        )

    def _fit(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the resized image's size, and top and left of its middle."""
        short = min(height, width)
        new_height, new_width = (
            self.size if edge == short else int(self.size * edge / short)
            for edge in (height, width)
        )
        top, left = (new_height - self.size) // 2, (new_width - self.size) // 2
        return new_height, new_width, top, left
