"""What is known of a scene, as grounding formats say it."""

from __future__ import annotations

from itertools import permutations

import cv2
import numpy as np

from .draw import opacity
from .samples import SceneSample
from .scene import Scene, SceneObject
from .tasks import caption

#: Numbers of test images begin here: files hold both splits side by side.
_FIRST_TEST_NUMBER = 500_000


def image_number(sample: SceneSample) -> int:
    """Return the number that formats without texts as ids know an image by, from 1."""
    split, number = sample.id.split("-")
    return int(number) + 1 + (_FIRST_TEST_NUMBER if split == "test" else 0)


def expressions(item: SceneObject) -> tuple[str, ...]:
    """Return texts that mean an object and nothing else in its scene."""
    return (item.reference, f"{item.phrase} at the {item.position}")


def grounded_caption(scene: Scene) -> tuple[str, list[tuple[int, int]]]:
    """Return the caption, and start and end of what names each object in it."""
    text, spans, place = caption(scene), [], 0
    for item in scene.objects:
        start = text.index(f"a {item.phrase}", place)
        place = start + len(f"a {item.phrase}")
        spans.append((start, place))
    return text, spans


def relations(scene: Scene) -> list[tuple[int, str, int]]:
    """Return how each object lies to each other one, as their cells say."""
    rows, columns = scene.style.rows.index, scene.style.columns.index
    found = []
    for (i, a), (j, b) in permutations(enumerate(scene.objects), 2):
        if columns(a.column) != columns(b.column):
            side = "left of" if columns(a.column) < columns(b.column) else "right of"
            found.append((i, side, j))
        if rows(a.row) != rows(b.row):
            found.append((i, "above" if rows(a.row) < rows(b.row) else "below", j))
    return found


def outline(item: SceneObject) -> list[list[float]]:
    """Return polygons ``x, y, x, y, ...`` around an object, in pixels."""
    x, y = item.box[:2]
    # Four points per pixel, so that the rings run along the pixels' edges.
    ink = np.kron(opacity(item) > 0.5, np.ones((4, 4))).astype(np.uint8)
    rings, _ = cv2.findContours(ink, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for ring in rings:
        corners = (ring[:, 0] + (ring[:, 0] % 4 == 3)) / 4 + (x, y)
        if len(corners) >= 3:
            found.append(corners.ravel().tolist())
    x1, y1, x2, y2 = map(float, item.box)
    return found or [[x1, y1, x2, y1, x2, y2, x1, y2]]
