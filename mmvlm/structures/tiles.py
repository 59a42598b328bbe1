"""Geometry of images cut into tiles (LLaVA-1.6's any-resolution views).

Views of an image: the whole image first, then the tiles row by row. Data
side and model side count with the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .vision import PatchTokenCount, ViewLayout

Size = tuple[int, int]


def select_best_resolution(original: Size, candidates: Sequence[Size]) -> Size:
    """Return the candidate that keeps most of the image and wastes least.

    Args:
        original (tuple[int, int]): height and width in pixels.
        candidates (Sequence[tuple[int, int]]): heights and widths in pixels; the
            first wins a tie.
    """
    height, width = original

    def score(candidate: Size) -> tuple[int, int]:
        scale = min(candidate[1] / width, candidate[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - candidate[0] * candidate[1]

    return max(candidates, key=score)


def fitted_size(original: Size, canvas: Size) -> Size:
    """Return the size of an image that just fits into a canvas.

    One side is the canvas's; the other is rounded up, as LLaVA-1.6 does.

    Args:
        original (tuple[int, int]): height and width of the image.
        canvas (tuple[int, int]): height and width to fit into.
    """
    scale_y, scale_x = canvas[0] / original[0], canvas[1] / original[1]
    if scale_x < scale_y:
        return min(math.ceil(original[0] * scale_x), canvas[0]), canvas[1]
    return canvas[0], min(math.ceil(original[1] * scale_y), canvas[1])


def tiles_of(layout: ViewLayout) -> Size:
    """Return rows and columns of the tiles of an image; (0, 0) for one view.

    Raises:
        ValueError: for several views that are no tiles.
    """
    if layout.kind == "anyres":
        return layout.extra
    if layout.num_views == 1:
        return 0, 0
    raise ValueError(
        f"an image of {layout.num_views} views of the layout '{layout.kind}'; "
        "tiles are joined of one view, or of the views of AnyResTiles."
    )


def unpadded_crop(original: Size, stitched: Size) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of the image inside a stitched map.

    The image was fitted into the tiles and padded; rows or columns of padding
    lie on both sides.

    Args:
        original (tuple[int, int]): height and width of the image.
        stitched (tuple[int, int]): rows and columns of the stitched patch map.
    """
    height, width = original
    rows, cols = stitched
    if width / height > cols / rows:
        margin = (rows - int(height * (cols / width))) // 2
        return margin, rows - margin, 0, cols
    margin = (cols - int(width * (rows / height))) // 2
    return 0, rows, margin, cols - margin


def num_tile_tokens(
    original: Size, tiles: Size, grid: Size, *, unpad: bool = True
) -> int:
    """Return the tokens of a tiled image: the whole one, then the tiles.

    Args:
        original (tuple[int, int]): height and width of the image.
        tiles (tuple[int, int]): rows and columns of tiles; (0, 0) for none.
        grid (tuple[int, int]): rows and columns of patches per view.
        unpad (bool): cut the padding and end every row with a newline.
    """
    base = grid[0] * grid[1]
    if tiles == (0, 0):
        return base + int(unpad)
    stitched = (tiles[0] * grid[0], tiles[1] * grid[1])
    if not unpad:
        return base + stitched[0] * stitched[1]
    top, bottom, left, right = unpadded_crop(original, stitched)
    return base + (bottom - top) * (right - left + 1)


@dataclass(frozen=True)
class TileTokenCount:
    """Tokens of a tiled image whose views are joined to one map.

    Args:
        per_view (PatchTokenCount): grid of tokens of one view.
        unpad (bool): the padding is cut and every row ends with a newline.
    """

    per_view: PatchTokenCount
    unpad: bool = True

    def __call__(self, layout: ViewLayout) -> int:
        """Return the LLM positions of one image."""
        return num_tile_tokens(
            layout.original_size,
            tiles_of(layout),
            self.per_view.grid(layout.view_size),
            unpad=self.unpad,
        )
