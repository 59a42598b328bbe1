"""One view whose sides are resized alike."""

from __future__ import annotations

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout

from .image import ViewTransform, as_view


@TRANSFORMS.register_module()
class ResizeSquare(ViewTransform):
    """Resize both edges to the size; the aspect ratio is not kept."""

    frame = "stretch"

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return one view: (H, W, 3) to (1, 3, size, size), uint8."""
        view = as_view(self._resize(image, self.size, self.size))
        return view, self.layout(*image.shape[:2])

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        return ViewLayout(
            original_size=(height, width),
            view_size=(self.size, self.size),
            kind="resize",
            scale=(self.size / width, self.size / height),
        )
