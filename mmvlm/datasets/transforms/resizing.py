"""Two ways to pad and resize a picture: PIL's to the bit, and a faster one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import PIL.Image
import torch
from torch.nn import functional

#: PIL's antialiased filters by the names that configs use.
FILTERS = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}
#: Those that torch has for 8-bit pixels, antialiased.
FAST_FILTERS = ("bilinear", "bicubic")
#: A canvas of more pixels is never made as a whole.
_MOST_PIXELS = 1 << 24


def resize_exact(
    image: np.ndarray, height: int, width: int, resample: str
) -> np.ndarray:
    """Resize as PIL does, which transformers' processors equal bit by bit.

    Shape:
        - ``image``: (H, W, 3), uint8
        - output: (height, width, 3), uint8
    """
    picture = PIL.Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), FILTERS[resample]))


def resize_fast(
    image: np.ndarray, height: int, width: int, resample: str
) -> np.ndarray:
    """Resize by torch's antialiased filters on 8-bit pixels.

    The weights are PIL's, rounded to fewer bits: pixels differ by one level at most,
    and few do.

    Shape:
        - ``image``: (H, W, 3), uint8
        - output: (height, width, 3), uint8, any strides
    """
    if not image.flags.writeable:  # torch warns of what nobody writes to
        image = image.copy()
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    resized = functional.interpolate(
        pixels, (height, width), mode=resample, antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0).numpy()


def expand_to_square(image: np.ndarray, color: Sequence[int]) -> np.ndarray:
    """Centre a picture in a square of its longer side.

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
    return _framed(image, (side, side), (top, left), color)


def pad_exact(
    image: np.ndarray, size: int, color: Sequence[int], resample: str
) -> np.ndarray:
    """Pad to a square, then resize it, with the pixels that PIL gives for that.

    PIL resizes every row, then every column. Rows of a border are of one colour and
    stay it: those of a wide picture are resized alone and the border is put around
    them in between. The rows of a very tall one are framed and resized a few at a
    time, so that memory grows with the picture and not with its square.

    Shape:
        - ``image``: (H, W, 3), uint8
        - output: (size, size, 3), uint8
    """
    height, width = image.shape[:2]
    if width <= height and height * height > _MOST_PIXELS and height != size:
        rows = _resized_rows(image, size, color, resample)
        return np.asarray(
            PIL.Image.fromarray(rows).resize((size,) * 2, FILTERS[resample])
        )
    if width <= height or width == size:
        square = expand_to_square(image, color)
        if len(square) == size:
            return square
        return resize_exact(square, size, size, resample)
    picture = PIL.Image.fromarray(np.ascontiguousarray(image))
    rows = picture.resize((size, height), FILTERS[resample])
    square = PIL.Image.new("RGB", (size, width), tuple(color))
    square.paste(rows, (0, (width - height) // 2))
    return np.asarray(square.resize((size, size), FILTERS[resample]))


def _resized_rows(
    image: np.ndarray, size: int, color: Sequence[int], resample: str
) -> np.ndarray:
    """Return the rows of a tall picture's square, each resized alone.

    Shape:
        - ``image``: (H, W, 3), uint8, H >= W
        - output: (H, size, 3), uint8
    """
    height, width = image.shape[:2]
    left, step = (height - width) // 2, max(1, _MOST_PIXELS // height)
    made = np.empty((height, size, 3), np.uint8)
    for top in range(0, height, step):
        some = image[top : top + step]
        wide = _framed(some, (len(some), height), (0, left), color)
        made[top : top + step] = resize_exact(wide, len(some), size, resample)
    return made


def pad_fast(
    image: np.ndarray, size: int, color: Sequence[int], resample: str
) -> np.ndarray:
    """Resize by :func:`resize_fast`, leaving out most of the border.

    Only the smallest part of the square around the picture is resized whose edges
    fall between pixels of the result, so that nothing is shifted. Where that part
    ends with a picture that shrinks, its outermost rows are not mixed with the
    border's colour.

    Shape:
        - ``image``: (H, W, 3), uint8
        - output: (size, size, 3), uint8, any strides
    """
    height, width = image.shape[:2]
    side, short = max(height, width), min(height, width)
    if side in (short, size):
        square = expand_to_square(image, color)
        return square if side == size else resize_fast(square, size, size, resample)
    step = side // math.gcd(side, size)
    start = (side - short) // 2
    # Where a picture is enlarged, its edge would show: the filter's reach comes too.
    reach = 0 if side > size else 2
    first = max(0, start - reach) // step * step
    last = min(side, -(-(start + short + reach) // step) * step)
    if (last - first) * side > max(_MOST_PIXELS, height * width):
        return pad_exact(image, size, color, resample)
    target = slice(first * size // side, last * size // side)
    extent = target.stop - target.start
    made = np.empty((3, size, size), np.uint8)
    if width > height:
        block = _framed(image, (last - first, side), (start - first, 0), color)
        inside = made[:, target]
        edges = made[:, : target.start], made[:, target.stop :]
        shape = (extent, size)
    else:
        block = _framed(image, (side, last - first), (0, start - first), color)
        inside = made[:, :, target]
        edges = made[:, :, : target.start], made[:, :, target.stop :]
        shape = (size, extent)
    inside[:] = resize_fast(block, *shape, resample).transpose(2, 0, 1)
    for edge in edges:
        for channel, value in enumerate(color):
            edge[channel] = value
    return made.transpose(1, 2, 0)


def _framed(
    image: np.ndarray,
    size: tuple[int, int],
    corner: tuple[int, int],
    color: Sequence[int],
) -> np.ndarray:
    """Return a canvas of (height, width) with the picture at (top, left)."""
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


#: Ways to resize by name.
RESIZERS: dict[str, Callable[[np.ndarray, int, int, str], np.ndarray]] = {
    "exact": resize_exact,
    "fast": resize_fast,
}
#: And to pad to a square that is then resized.
PADDERS: dict[str, Callable[[np.ndarray, int, Sequence[int], str], np.ndarray]] = {
    "exact": pad_exact,
    "fast": pad_fast,
}
