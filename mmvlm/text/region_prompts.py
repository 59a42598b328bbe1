"""Regions that a user points at: ``<region1>`` in questions, and what it stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmvlm.structures import Boxes, Conversation, Image, Region, Text, Turn

Read = Callable[[str, Any], Any]
#: What a user can point with, and how many numbers it takes (a mask is an array).
KINDS = {"box": 4, "point": 2, "mask": None}
_PLACE = re.compile(r"<region(\d{1,6})>")


def with_regions(
    talk: Conversation,
    regions: Sequence[Any] | Mapping[int, Any],
    read: Read = lambda name, source: source,
) -> Conversation:
    """Put regions where questions say ``<region1>``, ``<region2>``, ...

    Args:
        talk (Conversation): its images are arrays.
        regions (Sequence | Mapping[int, Any]): by number, from 1 on: a
            :class:`Region`, or ``{"box": (x1, y1, x2, y2)}``, ``{"point": (x, y)}`` or
            ``{"mask": source}`` in pixels of the image that was shown last before
            the question's words, or four or two bare numbers.
        read (Callable): makes of ``"mask"`` and a source an (H, W) array.

    Raises:
        TypeError: for something else as a region.
        ValueError: naming the region: one that no question mentions, a number without
            region, or a region that does not fit its image.
    """
    if not isinstance(regions, Mapping):
        regions = dict(enumerate(regions, 1))
    if not regions:
        return talk
    turns, shown, used = [], -1, set()
    for turn in talk.turns:
        parts: list[Any] = []
        for part in turn.parts:
            shown = part.index if isinstance(part, Image) else shown
            if turn.role != "user" or not isinstance(part, Text):
                parts.append(part)
                continue
            at = 0
            for match in _PLACE.finditer(part.text):
                number = int(match[1])
                if number not in regions:
                    known = ", ".join(f"<region{n}>" for n in sorted(regions))
                    raise ValueError(
                        f"{match[0]} stands in a question, but the regions are {known}."
                    )
                parts.append(part.sliced(at, match.start()))
                what = f"region {number}"
                parts.append(region_of(regions[number], talk.images, shown, read, what))
                used.add(number)
                at = match.end()
            parts.append(part.sliced(at))
        turns.append(Turn(turn.role, _without_empty(parts), turn.supervised))
    unused = sorted(set(regions) - used)
    if unused:
        raise ValueError(
            f"no question mentions region {unused[0]}; write <region{unused[0]}> where "
            "it is meant."
        )
    return replace(talk, turns=turns)


def region_of(
    source: Any,
    images: Sequence[Any],
    image: int,
    read: Read = lambda name, source: source,
    what: str = "region",
) -> Region:
    """Return the region that a user points at.

    Args:
        source (Any): see :func:`with_regions`.
        images (Sequence): of the conversation.
        image (int): index of the image that it lies in; -1: none was shown. A
            :class:`Region` says it itself.
        read (Callable): see :func:`with_regions`.
        what (str): names it in messages.

    Raises:
        TypeError: for something else as a region.
        ValueError: for a region without image, outside of it, or without area.
    """
    image = source.image if isinstance(source, Region) else image
    if not 0 <= image < len(images) or not isinstance(images[image], np.ndarray):
        raise ValueError(f"{what}: no image stands before it.")
    size = images[image].shape[:2]
    if isinstance(source, Region):
        if source.boxes.size != tuple(size):
            raise ValueError(
                f"{what} lies in an image of {_shape(source.boxes.size)}, but image "
                f"{image} has {_shape(size)}."
            )
        return source
    kind, value = _named(source, what)
    if kind == "mask":
        what = what if isinstance(value, np.ndarray) else f"{what} ('{value}')"
        mask = np.asarray(read("mask", value))
        if mask.shape != tuple(size):
            raise ValueError(
                f"{what}: the mask has shape {mask.shape}, its image {_shape(size)}; "
                "resize the mask to the image, without smoothing."
            )
        if not mask.any():
            raise ValueError(f"{what}: the mask is empty; paint what it means.")
        # Trainings without masks do not load what handles them.
        from mmvlm.structures.masks import mask_to_rle, rle_box

        rle = mask_to_rle(mask)
        boxes = Boxes(np.array([rle_box(rle)]), size)
        return Region(image, boxes, "mask", rles=(rle,))
    row = np.asarray(value, dtype=np.float64).reshape(-1)
    if len(row) != KINDS[kind] or not np.isfinite(row).all():
        raise ValueError(f"{what}: {value!r:.60}: expected {KINDS[kind]} numbers.")
    row = np.tile(row, 2) if kind == "point" else row
    limits = np.array([size[1], size[0]] * 2)
    if (row < 0).any() or (row > limits).any():
        raise ValueError(
            f"{what}: {kind} {row[: KINDS[kind]].tolist()} leaves its image of "
            f"{_shape(size)}; coordinates are pixels of the image in full size."
        )
    if kind == "box" and not (row[2:] > row[:2]).all():
        raise ValueError(
            f"{what}: box {row.tolist()} has no area; it is x1, y1, x2, y2 with "
            "x1 < x2 and y1 < y2."
        )
    return Region(image, Boxes(row, size), kind)


def _named(source: Any, what: str) -> tuple[str, Any]:
    """Return kind and value of a source."""
    if isinstance(source, Mapping) and len(source) == 1 and next(iter(source)) in KINDS:
        return next(iter(source.items()))
    if isinstance(source, np.ndarray) and source.ndim == 2:
        return "mask", source
    if isinstance(source, Sequence) and not isinstance(source, str):
        kinds = [kind for kind, count in KINDS.items() if count == len(source)]
        if kinds:
            return kinds[0], source
    raise TypeError(
        f"{what} is {source!r:.80}; expected a Region, {{'box': (x1, y1, x2, y2)}}, "
        "{'point': (x, y)} or {'mask': file or array}."
    )


def _shape(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]} pixels"


def _without_empty(parts: Sequence[Any]) -> tuple:
    return tuple(p for p in parts if not isinstance(p, Text) or p.text) or (Text(""),)
