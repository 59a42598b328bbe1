"""LLaVA-UHD's slices of an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout
from mmvlm.structures.slices import (
    overview_size,
    packed_grid,
    slice_grid,
    slice_size,
)

from .image import ViewTransform


@TRANSFORMS.register_module()
class SliceViews(ViewTransform):
    """The whole image, then slices in a grid near its aspect ratio (LLaVA-UHD).

    The number of slices and their grid are the official ones. With ``keep_aspect`` so
    are the sizes: the image and its slices keep their aspect ratio in whole patches,
    about as many as a square of the encoder's size has. All views of a batch have one
    size, so the patches of each are packed row by row into such a square, and the
    layout's ``grids`` tell how many rows and columns they have
    (``AnyAspectVisionEncoder`` reads them). Without, every view is resized to the
    square. The layout's ``scale`` maps points into the first view, not packed.

    Args:
        max_slices (int): most slices of an image. Default: 6.
        size (int | None): side of a view in pixels; None takes the encoder's.
        keep_aspect (bool): see above.
        patch_size (int | None): pixels per patch side; None takes the encoder's.
        resample (str | None): PIL's filter; None takes the encoder's.
        resize (str): ``exact`` or ``fast``, see :class:`ViewTransform`.
    """

    frame = "stretch"
    counts_by_size = True

    def __init__(
        self,
        max_slices: int = 6,
        size: int | None = None,
        resample: str | None = None,
        *,
        keep_aspect: bool = False,
        patch_size: int | None = None,
        resize: str = "exact",
    ) -> None:
        super().__init__(size=size, resample=resample, resize=resize)
        if max_slices < 1:
            raise ValueError(f"SliceViews: max_slices={max_slices}, expected >= 1.")
        self.max_slices = max_slices
        self.keep_aspect, self.patch_size = keep_aspect, patch_size
        if keep_aspect:
            self.needs = (*self.needs, "patch_size")

    def bind(self, context: Any) -> None:
        """Take from ``context.spec`` what the config left open."""
        super().bind(context)
        if self.patch_size is None and context.spec is not None:
            self.patch_size = context.spec.patch_size
        if self.keep_aspect and self.size and self.patch_size:
            if self.size % self.patch_size:
                raise ValueError(
                    f"SliceViews: size={self.size} is no multiple of the patch size "
                    f"{self.patch_size}; keep_aspect packs whole patches."
                )

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return the whole image and its slices row by row.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (1 + rows * columns, 3, size, size), uint8
        """
        layout = self.layout(*image.shape[:2])
        # Grid by grid of views: the whole image, then its slices.
        views = [self._cut(image, (1, 1), self._view_size(layout, 0))]
        if layout.extra:
            views.append(self._cut(image, layout.extra, self._view_size(layout, 1)))
        return np.concatenate(views), layout

    def _view_size(self, layout: ViewLayout, number: int) -> tuple[int, int]:
        """Return height and width of a view before it is packed."""
        if not layout.grids:
            return layout.view_size
        rows, cols = layout.grids[number]
        return rows * self.patch_size, cols * self.patch_size

    def _cut(
        self, image: np.ndarray, grid: tuple[int, int], size: tuple[int, int]
    ) -> np.ndarray:
        """Return the image as a grid of views of ``size``, packed if it is asked."""
        (rows, cols), (height, width) = grid, size
        large = self._resize(image, cols * width, rows * height)
        cut = large.reshape(rows, height, cols, width, 3).transpose(0, 2, 4, 1, 3)
        views = cut.reshape(-1, 3, height, width)
        return self._pack(views) if self.keep_aspect else views

    def _pack(self, views: np.ndarray) -> np.ndarray:
        """Pack patches row by row: (n, 3, h, w) to (n, 3, size, size)."""
        patch, (count, _, height, width) = self.patch_size, views.shape
        parts = views.reshape(count, 3, height // patch, patch, width // patch, patch)
        parts = parts.transpose(0, 2, 4, 1, 3, 5).reshape(count, -1, 3, patch, patch)
        side = self.size // patch
        packed = np.zeros((count, side * side, 3, patch, patch), np.uint8)
        packed[:, : parts.shape[1]] = parts
        packed = packed.reshape(count, side, side, 3, patch, patch)
        packed = packed.transpose(0, 3, 1, 4, 2, 5)
        return packed.reshape(count, 3, self.size, self.size)

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        size, side = (height, width), self.size
        grid = slice_grid(size, side, self.max_slices)
        slices = grid[0] * grid[1] if grid else 0
        first, grids = (side, side), ()
        if self.keep_aspect:
            patch = self.patch_size
            most = (side // patch) ** 2
            whole = packed_grid(overview_size(size, grid, side, patch), patch, most)
            grids, first = (whole,), (whole[0] * patch, whole[1] * patch)
            if grid:
                one = packed_grid(slice_size(size, grid, side, patch), patch, most)
                grids += (one,) * slices
        return ViewLayout(
            original_size=size,
            view_size=(side, side),
            num_views=1 + slices,
            kind="slices",
            scale=(first[1] / width, first[0] / height),
            extra=grid or (),
            grids=grids,
        )
