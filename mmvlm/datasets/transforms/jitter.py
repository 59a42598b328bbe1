"""Regions of questions moved a little, as hands and detectors draw them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import Boxes, Conversation, Region

_ROLES = ("user", "assistant", "all")


@TRANSFORMS.register_module()
class JitterRegions:
    """Move the corners of boxes at random; put it before :class:`WriteRegions`.

    Each side of a box moves by ``scale`` times the box's width (height), drawn from
    a normal distribution with that standard deviation, and is cut to the image.
    A result whose overlap with the original is below ``min_iou`` is drawn again, at
    most ``tries`` times; then the box stays as it was. Masks stay, points move by
    ``scale`` times the sides of the image.

    Key used and changed: ``conversation``. Key used: ``rng``.

    Args:
        scale (float): standard deviation, as a fraction of the box's sides.
        min_iou (float): least overlap (IoU) of a box with itself before, 0 to 1.
        role (str): whose regions move: ``user`` (questions), ``assistant`` or
            ``all``.
        tries (int): draws per box.

    Raises:
        ValueError: for a value outside its range.
    """

    augments = True

    def __init__(
        self,
        scale: float = 0.05,
        min_iou: float = 0.7,
        role: str = "user",
        tries: int = 10,
    ) -> None:
        if scale < 0 or not 0 <= min_iou <= 1 or tries < 1 or role not in _ROLES:
            raise ValueError(
                f"JitterRegions: scale={scale}, min_iou={min_iou}, tries={tries}, "
                f"role='{role}'; expected scale >= 0, min_iou in 0 .. 1, tries >= 1 "
                f"and a role of {list(_ROLES)}."
            )
        self.scale = scale
        self.min_iou = min_iou
        self.role = role
        self.tries = tries

    def __call__(self, item: dict) -> dict:
        """Return the item with moved regions."""
        conversation: Conversation = item["conversation"]
        turns = [
            replace(turn, parts=tuple(self._moved(p, item["rng"]) for p in turn.parts))
            if self.role in ("all", turn.role)
            else turn
            for turn in conversation.turns
        ]
        item["conversation"] = replace(conversation, turns=turns)
        return item

    def plan(self, item: dict) -> dict:
        """Return the item as always: no pixel is needed."""
        return self(item)

    def _moved(self, part, rng: np.random.Generator):
        if not isinstance(part, Region) or part.kind == "mask":
            return part
        boxes = part.boxes.to("pixel")
        move = self._move_point if part.kind == "point" else self._move_box
        rows = [move(row, boxes.size, rng) for row in boxes.xyxy]
        moved = Boxes(np.array(rows).reshape(-1, 4), boxes.size)
        return replace(part, boxes=moved)

    def _move_point(
        self, row: np.ndarray, size: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        height, width = size
        place = row[:2] + rng.normal(0, self.scale, 2) * [width, height]
        place = np.clip(place, 0, [width, height])
        return np.concatenate([place, place])

    def _move_box(
        self, row: np.ndarray, size: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        extent = np.tile(row[2:] - row[:2], 2)
        before = Boxes(row, size)
        for _ in range(self.tries):
            after = Boxes(row + rng.normal(0, self.scale, 4) * extent, size).clip()
            if before.iou(after)[0, 0] >= self.min_iou:
                return after.xyxy[0]
        return row
