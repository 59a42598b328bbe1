"""Geometry of LLaVA-UHD's slices: a grid near the image's own aspect ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .vision import TokenCount, ViewLayout

Size = tuple[int, int]


def _floor_to(length: float, patch: int) -> int:
    return max(math.floor(length / patch) * patch, patch)


def fitted_to_area(
    size: tuple[float, float], side: int, patch: int, *, upscale: bool = False
) -> Size:
    """Return height and width in whole patches, of about ``side`` squared pixels.

    Args:
        size (tuple[float, float]): height and width in pixels.
        side (int): the area is that of a square of this side.
        patch (int): pixels per patch side.
        upscale (bool): also enlarge what is smaller.
    """
    height, width = size
    if height * width > side * side or upscale:
        ratio = width / height
        height = int(side / math.sqrt(ratio))
        width = int(height * ratio)
    return _floor_to(height, patch), _floor_to(width, patch)


def slice_grid(original: Size, side: int, max_slices: int) -> Size | None:
    """Return rows and columns of slices; None when the image is small enough.

    Of all grids with about as many slices as the image has areas, the one whose
    aspect ratio is nearest on a log scale; the first wins a tie.
    """
    height, width = original
    ideal = min(math.ceil(width * height / (side * side)), max_slices)
    if ideal <= 1:
        return None
    counts = [n for n in (ideal - 1, ideal, ideal + 1) if 1 < n <= max_slices]
    grids = [(n // cols, cols) for n in counts for cols in _divisors(n)]
    aspect = math.log(width / height)
    return min(grids, key=lambda grid: abs(aspect - math.log(grid[1] / grid[0])))


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def slice_size(original: Size, grid: Size, side: int, patch: int) -> Size:
    """Return height and width of one slice in whole patches."""
    cells = tuple(
        _floor_to(edge, count) / count
        for edge, count in zip(original, grid, strict=True)
    )
    return fitted_to_area(cells, side, patch, upscale=True)


def overview_size(original: Size, grid: Size | None, side: int, patch: int) -> Size:
    """Return height and width of the whole image's view."""
    return fitted_to_area(original, side, patch, upscale=grid is None)


def packed_grid(size: Size, patch: int, most: int) -> Size:
    """Return rows and columns of patches of a view, at most ``most`` in all.

    Only images hundreds of times longer than wide have more, whose side cannot
    become smaller than a patch; they lose columns (or rows).
    """
    rows, cols = (side // patch for side in size)
    if rows * cols > most:
        rows, cols = (rows, most // rows) if rows < cols else (most // cols, cols)
    return rows, cols


def unpacked(view: np.ndarray, layout: ViewLayout, number: int) -> np.ndarray:
    """Return a view as an image, its packed patches put back where they belong.

    Args:
        view (np.ndarray): one view of the image.
        layout (ViewLayout): of the image.
        number (int): which of its views it is.

    Shape:
        - ``view``: (3, H, W)
        - output: (3, h, w), of the view's own grid; (3, H, W) if it is not packed
    """
    if not layout.grids:
        return view
    rows, cols = layout.grids[number]
    # The scale maps the image to the first view, before it is packed.
    patch = round(layout.scale[0] * layout.original_size[1] / layout.grids[0][1])
    patches = view.reshape(3, view.shape[1] // patch, patch, -1, patch)
    patches = patches.swapaxes(2, 3).reshape(3, -1, patch, patch)[:, : rows * cols]
    own = patches.reshape(3, rows, cols, patch, patch).swapaxes(2, 3)
    return own.reshape(3, rows * patch, cols * patch)


def slices_of(layout: ViewLayout) -> Size:
    """Return rows and columns of the slices of an image; (0, 0) for one view.

    Raises:
        ValueError: for several views that are no slices.
    """
    if layout.kind == "slices" and layout.extra:
        return layout.extra
    if layout.num_views == 1:
        return 0, 0
    raise ValueError(
        f"an image of {layout.num_views} views of the layout '{layout.kind}', "
        "expected one view or those of SliceViews."
    )


@dataclass(frozen=True)
class SliceTokenCount:
    """The tokens of every view, and one separator behind every slice.

    Args:
        per_view (TokenCount): of the views alone.
    """

    per_view: TokenCount

    def __call__(self, layout: ViewLayout) -> int:
        """Return the LLM positions of one image."""
        rows, cols = slices_of(layout)
        return self.per_view(layout) + rows * cols
