"""LLaVA-UHD's slices of a picture."""

from __future__ import annotations

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout
from mmvlm.structures.slices import slice_grid

from .image import ViewTransform


@TRANSFORMS.register_module()
class SliceViews(ViewTransform):
    """The whole picture, then slices in a grid near its aspect ratio (LLaVA-UHD).

    The number of slices and their grid are the official ones. Every view is resized
    to one square of the encoder's size, as all views of a batch have one size; the
    official slices keep their aspect ratio in whole patches
    (:func:`mmvlm.structures.slices.slice_size`). The layout's ``scale`` maps points
    into the first view.

    Args:
        max_slices (int): most slices of a picture. Default: 6.
        size (int | None): side of a view in pixels; None takes the encoder's.
        resample (str | None): PIL's filter; None takes the encoder's.
        resize (str): ``exact`` or ``fast``, see :class:`ViewTransform`.

    """

    counts_by_size = True

    def __init__(
        self,
        max_slices: int = 6,
        size: int | None = None,
        resample: str | None = None,
        *,
        resize: str = "exact",
    ) -> None:
        super().__init__(size=size, resample=resample, resize=resize)
        if max_slices < 1:
            raise ValueError(f"SliceViews: max_slices={max_slices}, expected >= 1.")
        self.max_slices = max_slices

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return the whole picture and its slices row by row.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (1 + rows * columns, 3, size, size), uint8
        """
        size, layout = self.size, self.layout(*image.shape[:2])
        views = [self._resize(image, size, size).transpose(2, 0, 1)[None]]
        if layout.extra:
            rows, cols = layout.extra
            large = self._resize(image, cols * size, rows * size)
            slices = large.reshape(rows, size, cols, size, 3).transpose(0, 2, 4, 1, 3)
            views.append(slices.reshape(-1, 3, size, size))
        return np.concatenate(views), layout

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        grid = slice_grid((height, width), self.size, self.max_slices)
        return ViewLayout(
            original_size=(height, width),
            view_size=(self.size, self.size),
            num_views=1 + (grid[0] * grid[1] if grid else 0),
            kind="slices",
            scale=(self.size / width, self.size / height),
            extra=grid or (),
        )
