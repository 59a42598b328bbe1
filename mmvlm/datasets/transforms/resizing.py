"""Pad and resize an image as PIL does, to the bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image

#: PIL's antialiased filters by the names that configs use.
FILTERS = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}
#: A canvas of more pixels is never made as a whole.
MOST_PIXELS = 1 << 24


def resize_exact(
    image: np.ndarray, height: int, width: int, resample: str
) -> np.ndarray:
    """Resize as PIL does, which transformers' processors equal bit by bit.

    Shape:
        - ``image``: (H, W, 3), uint8
        - output: (height, width, 3), uint8
    """
    whole = PIL.Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(whole.resize((width, height), FILTERS[resample]))


def expand_to_square(image: np.ndarray, color: Sequence[int]) -> np.ndarray:
    """Centre an image in a square of its longer side.

    The odd pixel of the border goes right or below.

    Shape:
        - ``image``: (H, W, 3), uint8
        - output: (S, S, 3) with S = max(H, W); the input itself if square
    """
    height, width = image.shape[:2]
    if height == width:
        return image
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return framed(image, (side, side), (top, left), color)


def pad_exact(
    image: np.ndarray, size: int, color: Sequence[int], resample: str
) -> np.ndarray:
    """Pad to a square, then resize it, with the pixels that PIL gives for that.

    PIL resizes every row, then every column. Rows of a border are of one colour and
    stay it: those of a wide image are resized alone and the border is put around
    them in between. The rows of a very tall one are framed and resized a few at a
    time, so that memory grows with the image and not with its square.

    Shape:
        - ``image``: (H, W, 3), uint8
        - output: (size, size, 3), uint8
    """
    height, width = image.shape[:2]
    if width <= height and height * height > MOST_PIXELS and height != size:
        rows = _resized_rows(image, size, color, resample)
        return np.asarray(
            PIL.Image.fromarray(rows).resize((size,) * 2, FILTERS[resample])
        )
    if width <= height or width == size:
        square = expand_to_square(image, color)
        if len(square) == size:
            return square
        return resize_exact(square, size, size, resample)
    whole = PIL.Image.fromarray(np.ascontiguousarray(image))
    rows = whole.resize((size, height), FILTERS[resample])
    square = PIL.Image.new("RGB", (size, width), tuple(color))
    square.paste(rows, (0, (width - height) // 2))
    return np.asarray(square.resize((size, size), FILTERS[resample]))


def _resized_rows(
    image: np.ndarray, size: int, color: Sequence[int], resample: str
) -> np.ndarray:
    """Return the rows of a tall image's square, each resized alone.

    Shape:
        - ``image``: (H, W, 3), uint8, H >= W
        - output: (H, size, 3), uint8
    """
    height, width = image.shape[:2]
    left, step = (height - width) // 2, max(1, MOST_PIXELS // height)
    made = np.empty((height, size, 3), np.uint8)
    for top in range(0, height, step):
        some = image[top : top + step]
        wide = framed(some, (len(some), height), (0, left), color)
        made[top : top + step] = resize_exact(wide, len(some), size, resample)
    return made


def framed(
    image: np.ndarray,
    size: tuple[int, int],
    corner: tuple[int, int],
    color: Sequence[int],
) -> np.ndarray:
    """Return a canvas of (height, width) with the image at (top, left)."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    top, left = corner
    canvas = np.empty((*size, 3), dtype=np.uint8)
    # Whole lines are copied many times faster than single colours.
    line = np.tile(np.asarray(color, dtype=np.uint8), (size[1], 1))
    canvas[:top] = canvas[top + height :] = line
    middle = canvas[top : top + height]
    middle[:, :left], middle[:, left + width :] = line[:left], line[left + width :]
    middle[:, left : left + width] = image
    return canvas
