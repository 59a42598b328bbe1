"""Masks of a scene's objects, drawn and as the outlines that files keep."""

from __future__ import annotations

import cv2
import numpy as np

from .draw import opacity
from .scene import DIGITS, SHAPES, WORDS, Scene, SceneObject

#: Every :attr:`SceneObject.label` there is.
LABELS = (*SHAPES, *(f"digit {d}" for d in DIGITS), *(f"word {w}" for w in WORDS))
#: Share of the box that a bar of a cross takes, as it is drawn.
_BAR = 0.32


def object_mask(scene: Scene, item: SceneObject) -> np.ndarray:
    """Return the pixels that an object covers by half or more: (S, S) uint8."""
    x1, y1, x2, y2 = item.box
    alpha = opacity(item)
    mask = np.zeros((scene.size, scene.size), np.uint8)
    mask[y1:y2, x1:x2] = alpha >= min(0.5, float(alpha.max()))
    return mask


def edge_mask(scene: Scene, item: SceneObject) -> np.ndarray:
    """Return the pixels that an object covers by less than half: (S, S) uint8."""
    x1, y1, x2, y2 = item.box
    mask = np.zeros((scene.size, scene.size), np.uint8)
    mask[y1:y2, x1:x2] = opacity(item) > 0
    return mask & ~object_mask(scene, item)


def shape_outline(item: SceneObject) -> list[float]:
    """Return the ring ``x, y, x, y, ...`` that a shape is drawn from, in pixels.

    Raises:
        ValueError: for a digit or a word, which have no outline of their own.
    """
    x1, y1, x2, y2 = map(float, item.box)
    width, height = x2 - x1, y2 - y1
    if item.name == "circle":
        # Drawn four times larger around a pixel's middle, so 1/8 pixel further.
        angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        xs = x1 + np.clip((width / 2 + 0.125) * (1 + np.cos(angles)), 0, width)
        ys = y1 + np.clip((height / 2 + 0.125) * (1 + np.sin(angles)), 0, height)
        return np.stack([xs, ys], axis=1).ravel().tolist()
    if item.name == "square":
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if item.name == "triangle":
        return [(x1 + x2) / 2, y1, x2, y2, x1, y2]
    if item.name != "cross":
        raise ValueError(f"'{item.label}' has no outline; use its mask.")
    left, right = (x1 + place for place in _bar(width))
    top, bottom = (y1 + place for place in _bar(height))
    corners = [
        *((left, y1), (right, y1), (right, top), (x2, top), (x2, bottom)),
        *((right, bottom), (right, y2), (left, y2), (left, bottom), (x1, bottom)),
        *((x1, top), (left, top)),
    ]
    return [value for corner in corners for value in corner]


def _bar(length: float) -> tuple[float, float]:
    """Return where a bar of a cross begins and ends, drawn four times larger.

    A little more, so that pixels that it covers by half are inside.
    """
    whole = round(length) * 4
    bar = round(whole * _BAR)
    return (whole - bar) // 2 / 4 - 0.05, (whole + bar) // 2 / 4 + 0.05


def pixel_contours(mask: np.ndarray) -> list[list[list[int]]]:
    """Return rings through the middles of a mask's border pixels, pairs x, y.

    Drawn with their outline they give the mask back, but for its holes.
    """
    method = cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    return [ring[:, 0].tolist() for ring in cv2.findContours(mask, *method)[0]]


def label_map(
    scene: Scene, numbers: dict[str, int], *, background: int, unsure: int
) -> np.ndarray:
    """Return a number for every pixel: (S, S) uint8.

    Args:
        scene (Scene): with objects.
        numbers (dict[str, int]): of each of ``LABELS``.
        background (int): where no object is.
        unsure (int): where an object covers less than half of the pixel.
    """
    out = np.full((scene.size, scene.size), background, np.uint8)
    for item in scene.objects:
        out[edge_mask(scene, item) > 0] = unsure
        out[object_mask(scene, item) > 0] = numbers[item.label]
    return out
