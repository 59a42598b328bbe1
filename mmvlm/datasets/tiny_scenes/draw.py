"""Scenes to pixels, with OpenCV."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from . import handwriting
from .scene import Scene, SceneObject
from .styles import ALL_COLOURS

# Shapes and words are drawn this many times larger and averaged down, which
# gives smooth edges.
_ZOOM = 4
_NOISE = 5.0
#: Standard deviation of a training digit's warp, of 40 pixels.
_WOBBLE = 1.0
#: Thickness of a ring and a stroke, of the box's shorter side.
_RING, _STROKE = 0.22, 0.3


def render(scene: Scene) -> np.ndarray:
    """Draw a scene.

    Returns:
        np.ndarray: (size, size, 3) uint8 RGB; equal for equal scenes.
    """
    rng = np.random.default_rng(scene.noise_seed)
    canvas = np.empty((scene.size, scene.size, 3), np.float32)
    canvas[:] = scene.background
    for item in scene.objects:
        x1, y1, x2, y2 = item.box
        alpha = opacity(item)[..., None]
        colour = np.array(ALL_COLOURS[item.colour], np.float32) * rng.uniform(0.85, 1.0)
        area = canvas[y1:y2, x1:x2]
        area += alpha * (colour - area)
    canvas += rng.normal(0, _NOISE, canvas.shape).astype(np.float32)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def opacity(item: SceneObject) -> np.ndarray:
    """Return how much of each pixel of its box an object shows: (h, w), 0-1."""
    alpha = _MASKS[item.kind](item)
    if item.covered_by:
        over = replace(item, kind="shape", name=item.covered_by, partner="")
        alpha = alpha * (1 - _shape_mask(over))
    return alpha


def _shape_mask(item: SceneObject) -> np.ndarray:
    """Opacity (h, w) of a shape that fills its box."""
    width, height = item.box[2] - item.box[0], item.box[3] - item.box[1]
    w, h = width * _ZOOM, height * _ZOOM
    big = np.zeros((h, w), np.uint8)
    if item.name == "circle":
        cv2.ellipse(big, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 255, -1)
    elif item.name == "square":
        big[:] = 255
    elif item.name == "triangle":
        corners = np.array([[w // 2, 0], [w - 1, h - 1], [0, h - 1]], np.int32)
        cv2.fillPoly(big, [corners], 255)
    elif item.name == "ring":
        centre, thick = (w // 2, h // 2), round(min(w, h) * _RING)
        axes = (w // 2 - thick // 2, h // 2 - thick // 2)
        cv2.ellipse(big, centre, axes, 0, 0, 360, 255, thick)
    elif item.name == "stroke":
        # Clipped corners keep it inside, and its ends fill the box's.
        cv2.line(big, (0, 0), (w - 1, h - 1), 255, round(min(w, h) * _STROKE))
    else:
        bar_w, bar_h = round(w * 0.32), round(h * 0.32)
        big[:, (w - bar_w) // 2 : (w + bar_w) // 2] = 255
        big[(h - bar_h) // 2 : (h + bar_h) // 2, :] = 255
    small = cv2.resize(big, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def _digit_mask(item: SceneObject) -> np.ndarray:
    """Opacity (h, w) of a handwritten digit, its ink fitted to the box."""
    width, height = item.box[2] - item.box[0], item.box[3] - item.box[1]
    big = np.pad(handwriting.load()[0][item.source], 1)
    side = 40
    big = cv2.resize(big, (side, side), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), item.angle, 0.9)
    turn[0, 1] += item.slant
    turn[0, 2] -= item.slant * side / 2
    big = cv2.warpAffine(big, turn, (side, side))
    if item.wobble >= 0:
        big = _wobble(big, item.wobble)
    big = np.clip(big, 0, 1)
    ink = big > 0.3
    columns, lines = np.flatnonzero(ink.any(0)), np.flatnonzero(ink.any(1))
    big = big[lines[0] : lines[-1] + 1, columns[0] : columns[-1] + 1]
    small = cv2.resize(big, (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(small * item.ink, 0, 1)


def _wobble(mask: np.ndarray, seed: int) -> np.ndarray:
    """Warp as another hand would have written it: smoothly, by up to a stroke."""
    side = mask.shape[0]
    coarse = np.random.default_rng(seed).normal(0, _WOBBLE, (2, 4, 4))
    x, y = (
        cv2.resize(c.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        for c in coarse
    )
    lines, columns = np.mgrid[:side, :side].astype(np.float32)
    return cv2.remap(mask, columns + x, lines + y, cv2.INTER_LINEAR)


def _word_mask(item: SceneObject) -> np.ndarray:
    """Opacity (h, w) of a word that fills its box."""
    width, height = item.box[2] - item.box[0], item.box[3] - item.box[1]
    font, scale, thickness = cv2.FONT_HERSHEY_SIMPLEX, 2.0, 5
    (text_w, text_h), base = cv2.getTextSize(item.name, font, scale, thickness)
    big = np.zeros((text_h + base + 12, text_w + 12), np.uint8)
    cv2.putText(big, item.name, (6, text_h + 6), font, scale, 255, thickness)
    columns, lines = np.flatnonzero(big.any(0)), np.flatnonzero(big.any(1))
    big = big[lines[0] : lines[-1] + 1, columns[0] : columns[-1] + 1]
    small = cv2.resize(big, (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(small.astype(np.float32) / 255 * 1.4, 0, 1)


_MASKS = {"shape": _shape_mask, "digit": _digit_mask, "word": _word_mask}
