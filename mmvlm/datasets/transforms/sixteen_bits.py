"""Images of more than 8 bits per channel."""

from __future__ import annotations

import numpy as np
import PIL.Image

#: Depths of cameras and scanners whose values are kept in 16 bits.
_DEPTHS = (8, 10, 12, 14, 16)


def narrow(
    wide: np.ndarray, depth: int | None, label: str
) -> tuple[PIL.Image.Image, tuple[str, str] | None]:
    """Return an image with 8 bits per channel.

    Args:
        wide (np.ndarray): values of 0 to 65535.
        depth (int | None): bits that the values fill; None takes the fewest that
            cameras and scanners have and that hold the brightest value.
        label (str): names the image.

    Shape:
        - ``wide``: (H, W) or (H, W, C)

    Returns:
        tuple: the image; kind and text of what is to be told of it, or None.

    Raises:
        ValueError: for values below 0 or of more bits.
    """
    most, told = int(wide.max()), None
    if wide.min() < 0 or most > 65535:
        raise ValueError("values lie outside 0..65535")
    if depth is None:
        depth = next(bits for bits in _DEPTHS if most < 1 << bits)
        if depth < 16:
            told = (
                f"{depth} bits",
                f"image '{label}' has 16 bits, its brightest value is {most}: read "
                f"as {depth} bits; further ones are not told. "
                "LoadImages(depth=16) takes all as they are stored.",
            )
    if most >= 1 << depth:
        raise ValueError(f"its brightest value {most} needs more than {depth} bits")
    scaled = wide.astype(np.uint32) * 255 // ((1 << depth) - 1)
    return PIL.Image.fromarray(scaled.astype(np.uint8)), told


def stored_colours(image: PIL.Image.Image) -> np.ndarray | None:
    """Return the pixels of a 16-bit colour file that PIL would turn black.

    PIL keeps the upper eight bits of each channel, as LLaVA does; that serves values
    of the whole range, but leaves a 12-bit image sixteen levels.

    Shape:
        - output: (H, W) or (H, W, C), uint16; None where PIL's reading serves
    """
    import cv2

    file, place = image.fp, image.fp.tell()
    file.seek(0)
    stored = np.frombuffer(file.read(), np.uint8)
    file.seek(place)
    wide = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
    if wide is None or wide.dtype != np.uint16 or wide.max() >= 1 << _DEPTHS[-2]:
        return None
    if wide.ndim == 2:
        return wide
    order = cv2.COLOR_BGRA2RGBA if wide.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(wide, order)
