"""Masks that users paint: images of two values."""

from __future__ import annotations

import os

import numpy as np
import PIL.Image


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Return what a mask file marks.

    Shape:
        - output: (H, W), bool

    Args:
        path (str | PathLike): an image in grey, or with equal channels, of 0 and one
            other value, which marks.

    Raises:
        ValueError: naming the file, for one that is no such image, with its cure.
    """
    name = os.fspath(path)
    try:
        with PIL.Image.open(name) as image:
            mode, has_alpha = image.mode, "transparency" in image.info
            # PIL cuts 16-bit colours to 8 bits; only before it loads does it tell.
            is_wide = any(";16" in str(tile[3]) for tile in image.tile)
            pixels = np.asarray(image.convert("L") if mode == "P" else image)
    except (
        OSError,
        ValueError,
        SyntaxError,
        PIL.Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"mask file '{name}' cannot be read: {error}") from error
    cure = "save it as 8-bit grey with 0 outside and 255 inside"
    if has_alpha or mode in ("LA", "RGBA", "PA", "La", "RGBa"):
        raise ValueError(f"mask file '{name}' has an alpha channel; {cure}.")
    if mode not in ("1", "L", "P", "RGB"):
        raise ValueError(f"mask file '{name}' has pixels of mode {mode}; {cure}.")
    if is_wide:
        raise ValueError(f"mask file '{name}' has 16 bits per channel; {cure}.")
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            raise ValueError(f"mask file '{name}' has colours; {cure}.")
        pixels = pixels[..., 0]
    values = np.unique(pixels)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(map(str, values[:4].tolist()))
        raise ValueError(
            f"mask file '{name}' is not binary: it has {len(values)} values ({shown}"
            f"{', ...' if len(values) > 4 else ''}); {cure}."
        )
    return pixels != 0
