"""Monkey's views: windows of the enlarged image, then the whole one."""

from __future__ import annotations

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout

from .image import ViewTransform, as_view


@TRANSFORMS.register_module()
class GridWindows(ViewTransform):
    """Windows of the enlarged image row by row, then the whole one (Monkey).

    The image is resized to ``grid`` x ``grid`` windows, its aspect ratio not
    kept. The layout's ``scale`` maps points into the last view.

    Args:
        grid (int): windows per side. Default: 2.
        size (int | None): side of a view in pixels; None takes the encoder's.
        resample (str | None): PIL's filter; None takes the encoder's.
        resize (str): ``exact`` or ``fast``, see :class:`ViewTransform`.
    """

    frame = "stretch"

    def __init__(
        self,
        grid: int = 2,
        size: int | None = None,
        resample: str | None = None,
        *,
        resize: str = "exact",
    ) -> None:
        super().__init__(size=size, resample=resample, resize=resize)
        if grid < 1:
            raise ValueError(f"GridWindows: grid={grid}, expected at least 1.")
        self.grid = grid

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return the windows and the whole image.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (grid * grid + 1, 3, size, size), uint8
        """
        size, grid = self.size, self.grid
        large = self._resize(image, grid * size, grid * size)
        windows = large.reshape(grid, size, grid, size, 3).transpose(0, 2, 4, 1, 3)
        whole = as_view(self._resize(image, size, size))
        views = np.concatenate([windows.reshape(-1, 3, size, size), whole])
        return views, self.layout(*image.shape[:2])

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        size, grid = self.size, self.grid
        return ViewLayout(
            original_size=(height, width),
            view_size=(size, size),
            num_views=grid * grid + 1,
            kind="windows",
            scale=(size / width, size / height),
            extra=(grid, grid),
        )
