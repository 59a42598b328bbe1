"""LLaVA-1.6's views: the whole image, then tiles of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout
from mmvlm.structures.tiles import fitted_size, select_best_resolution

from .image import ViewTransform, as_view


@TRANSFORMS.register_module()
class AnyResTiles(ViewTransform):
    """The whole image, then tiles of it at a larger resolution (LLaVA-1.6).

    The image is fitted into the grid of tiles that keeps most of its pixels and
    wastes least, centred on black, and cut row by row. The first view is the whole
    image resized to one square, its aspect ratio not kept. The layout's ``scale``
    maps points into that first view; ``extra`` holds rows and columns of tiles.

    Args:
        tilings (Sequence[tuple[int, int]]): rows and columns of the grids to choose
            from, the first wins a tie. Default: LLaVA-NeXT's pinpoints (336, 672),
            (672, 336), (672, 672), (1008, 336), (336, 1008) (width, height) in
            multiples of a view.
        size (int | None): side of a view in pixels; None takes the encoder's.
        resample (str | None): PIL's filter; None takes the encoder's.
        resize (str): ``exact`` or ``fast``, see :class:`ViewTransform`.
    """

    frame = "stretch"
    counts_by_size = True

    def __init__(
        self,
        tilings: Sequence[tuple[int, int]] = ((2, 1), (1, 2), (2, 2), (1, 3), (3, 1)),
        size: int | None = None,
        resample: str | None = None,
        *,
        resize: str = "exact",
    ) -> None:
        super().__init__(size=size, resample=resample, resize=resize)
        self.tilings = [tuple(tiling) for tiling in tilings]
        if not self.tilings or any(len(t) != 2 or min(t) < 1 for t in self.tilings):
            raise ValueError(
                f"AnyResTiles: tilings={list(tilings)}, expected pairs (rows, columns) "
                "of at least 1."
            )

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return the whole image and its tiles.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (1 + rows * columns, 3, size, size), uint8
        """
        size, layout = self.size, self.layout(*image.shape[:2])
        rows, cols = layout.extra
        canvas = self.fit(image, rows * size, cols * size)
        tiles = canvas.reshape(rows, size, cols, size, 3).transpose(0, 2, 4, 1, 3)
        whole = as_view(self._resize(image, size, size))
        return np.concatenate([whole, tiles.reshape(-1, 3, size, size)]), layout

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        size = self.size
        canvases = [(rows * size, cols * size) for rows, cols in self.tilings]
        best = select_best_resolution((height, width), canvases)
        rows, cols = best[0] // size, best[1] // size
        return ViewLayout(
            original_size=(height, width),
            view_size=(size, size),
            num_views=1 + rows * cols,
            kind="anyres",
            scale=(size / width, size / height),
            extra=(rows, cols),
        )

    def fit(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        """Fit an image into a black canvas, in the middle.

        Shape:
            - ``image``: (H, W, 3), uint8
            - output: (height, width, 3), uint8
        """
        new_height, new_width = fitted_size(image.shape[:2], (height, width))
        canvas = np.zeros((height, width, 3), dtype=np.uint8)
        top, left = (height - new_height) // 2, (width - new_width) // 2
        canvas[top : top + new_height, left : left + new_width] = self._resize(
            image, new_width, new_height
        )
        return canvas
