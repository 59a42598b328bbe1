"""Pad and resize an image faster than PIL does, by torch, at most one level apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from .resizing import MOST_PIXELS, expand_to_square, framed, pad_exact


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


def pad_fast(
    image: np.ndarray, size: int, color: Sequence[int], resample: str
) -> np.ndarray:
    """Resize by :func:`resize_fast`, leaving out most of the border.

    Only the smallest part of the square around the image is resized whose edges
    fall between pixels of the result, so that nothing is shifted. Where that part
    ends with an image that shrinks, its outermost rows are not mixed with the
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
    # Where an image is enlarged, its edge would show: the filter's reach comes too.
    reach = 0 if side > size else 2
    first = max(0, start - reach) // step * step
    last = min(side, -(-(start + short + reach) // step) * step)
    if (last - first) * side > max(MOST_PIXELS, height * width):
        return pad_exact(image, size, color, resample)
    target = slice(first * size // side, last * size // side)
    extent = target.stop - target.start
    made = np.empty((3, size, size), np.uint8)
    if width > height:
        block = framed(image, (last - first, side), (start - first, 0), color)
        inside = made[:, target]
        edges = made[:, : target.start], made[:, target.stop :]
        shape = (extent, size)
    else:
        block = framed(image, (side, last - first), (0, start - first), color)
        inside = made[:, :, target]
        edges = made[:, :, : target.start], made[:, :, target.stop :]
        shape = (size, extent)
    inside[:] = resize_fast(block, *shape, resample).transpose(2, 0, 1)
    for edge in edges:
        for channel, value in enumerate(color):
            edge[channel] = value
    return made.transpose(1, 2, 0)
