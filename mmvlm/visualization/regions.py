"""Regions drawn into their image: boxes, points, masks, and what they are called."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from mmvlm.structures import Region
from mmvlm.structures.masks import polygons_to_mask, rle_to_mask

#: Colours of phrases, in order of appearance.
COLOURS = (
    *("#e11d48", "#2563eb", "#16a34a", "#d97706", "#9333ea"),
    *("#0891b2", "#db2777", "#65a30d", "#7c3aed", "#ea580c"),
)
#: Longest side of a drawn image: small ones are enlarged, large ones shrunk.
SIDES = (640, 1600)
MOST_LABELS = 100
_FONT_SIZES = (16, 14, 12, 10, 8)
_LONGEST_LABEL = 32
_WASH = 0.35
#: From one dash to the next, and length of a dash, in pixels.
_DASH = (14, 8)
_Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class RegionGroup:
    """Regions that are drawn the same way.

    Args:
        regions (tuple[Region, ...]): of one image.
        dashed (bool): lines are broken, masks without a wash and points hollow, as
            those of the truth beside predictions.
        prefix (str): in front of every label.
    """

    regions: tuple[Region, ...]
    dashed: bool = False
    prefix: str = ""


def name_of(region: Region, number: int) -> str:
    """Return what a region is called: its phrase, or kind and number."""
    return (region.phrase or "").strip() or f"{region.kind} {number + 1}"


def label_of(region: Region, number: int) -> str:
    """Return what is written at a region: its name, and its score if it has one."""
    name = name_of(region, number)
    return name if region.score is None else f"{name} {region.score:.2f}"


def colours_of(groups: Iterable[RegionGroup]) -> dict[str, str]:
    """Return a colour for every name (case apart), the same in all groups."""
    colours: dict[str, str] = {}
    for group in groups:
        for number, region in enumerate(group.regions):
            key = name_of(region, number).lower()
            colours.setdefault(key, COLOURS[len(colours) % len(COLOURS)])
    return colours


def draw_regions(image: np.ndarray, groups: Sequence[RegionGroup]) -> np.ndarray:
    """Draw regions into a copy of their image.

    Equal phrases have one colour. Labels lie inside the image and off each other;
    one for which there is no room, even in the smallest print, is left out, and so are
    those behind the first ``MOST_LABELS``.

    Args:
        image (np.ndarray): (H, W, 3) uint8, RGB.
        groups (Sequence[RegionGroup]): drawn in order.

    Returns:
        np.ndarray: (h, w, 3) uint8, resized to have its longest side within ``SIDES``.
    """
    height, width = image.shape[:2]
    longest = max(height, width)
    scale = min(max(longest, SIDES[0]), SIDES[1]) / longest
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_NEAREST if scale > 2 else cv2.INTER_AREA
    pixels = cv2.resize(image, size, interpolation=method)
    colours = colours_of(groups)
    anchors, labels = [], []
    for group in groups:
        for number, region in enumerate(group.regions):
            name = label_of(region, number)
            colour = colours[name_of(region, number).lower()]
            pixels = _with_masks(pixels, region, colour, group.dashed)
            # What a reply says may lie anywhere.
            rows = np.clip(
                region.boxes.to("pixel").xyxy * scale, -9, np.tile(size, 2) + 8
            )
            for row in rows:
                anchors.append(tuple(row.tolist()))
                labels.append((group.prefix + name, colour, group.dashed, region.kind))
    canvas = PIL.Image.fromarray(pixels)
    draw = PIL.ImageDraw.Draw(canvas)
    for anchor, (_, colour, dashed, kind) in zip(anchors, labels, strict=True):
        if kind == "point":
            _draw_point(draw, anchor, colour, dashed)
        elif kind == "box":
            _draw_box(draw, anchor, colour, dashed)
    named = [label[:2] for label in labels[:MOST_LABELS]]
    around = [
        _around(anchor) if kind == "point" else anchor
        for anchor, (*_, kind) in zip(anchors, labels, strict=True)
    ]
    _draw_labels(draw, around[:MOST_LABELS], named, size)
    return np.asarray(canvas)


def place_labels(
    sizes: Sequence[tuple[float, float]],
    anchors: Sequence[_Rectangle],
    canvas: tuple[float, float],
) -> list[tuple[float, float] | None]:
    """Find a place for the label of each rectangle, near it and free.

    Args:
        sizes (Sequence[tuple[float, float]]): width and height of each label.
        anchors (Sequence[tuple]): x1, y1, x2, y2 of what it belongs to.
        canvas (tuple[float, float]): width and height of the image.

    Returns:
        list: left and top of each label, inside the canvas and off all others; None
        where there is no room.
    """
    taken: list[_Rectangle] = []
    places: list[tuple[float, float] | None] = []
    for (width, height), anchor in zip(sizes, anchors, strict=True):
        place = None
        room = canvas[0] - width, canvas[1] - height
        if min(room) >= 0:
            for x, y in _candidates(width, height, anchor, room):
                spot = (x, y, x + width, y + height)
                if not any(_overlap(spot, other) for other in taken):
                    place = (x, y)
                    taken.append(spot)
                    break
        places.append(place)
    return places


def _candidates(
    width: float, height: float, anchor: _Rectangle, room: tuple[float, float]
) -> Iterable[tuple[float, float]]:
    """Yield places inside the image, the best first."""
    x1, y1, x2, y2 = anchor
    around = [
        *((x1, y1 - height), (x1, y1), (x1, y2), (x2 - width, y1 - height)),
        *((x2 - width, y2), (x2, y1), (x1 - width, y1), (x1, y2 - height)),
    ]
    inside = [(min(max(x, 0.0), room[0]), min(max(y, 0.0), room[1])) for x, y in around]
    yield from inside
    x, y = inside[0]
    steps = [np.arange(0, side + 1, max(step / 2, 1)) for side, step in
             zip(room, (width, height), strict=True)]  # fmt: skip
    grid = [(float(a), float(b)) for a in steps[0] for b in steps[1]]
    yield from sorted(grid, key=lambda spot: abs(spot[0] - x) + abs(spot[1] - y))


def _overlap(first: _Rectangle, second: _Rectangle) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def region_mask(region: Region) -> np.ndarray | None:
    """Return the union of a region's masks, (H, W) bool; None where it has none."""
    size = region.boxes.size
    masks = [rle_to_mask(rle) for rle in region.rles if rle is not None]
    if not masks:
        masks = [polygons_to_mask(rings, size) for rings in region.polygons if rings]
    return np.any(masks, axis=0) if masks else None


def _with_masks(
    pixels: np.ndarray, region: Region, colour: str, dashed: bool
) -> np.ndarray:
    """Return pixels with the outline of a region's masks, and a wash unless dashed."""
    mask = region_mask(region)
    if mask is None:
        return pixels
    size = pixels.shape[1], pixels.shape[0]
    mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    rings, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    painted, shade = pixels.astype(np.float32), np.array(_rgb(colour), np.float32)
    if not dashed:
        painted[mask > 0] = painted[mask > 0] * (1 - _WASH) + shade * _WASH
    painted = np.ascontiguousarray(painted.round().astype(np.uint8))
    if not dashed:
        cv2.drawContours(painted, rings, -1, _rgb(colour), 2)
        return painted
    cv2.drawContours(painted, rings, -1, (255, 255, 255), 2)
    period, length = _DASH
    dashes = [r[at : at + length] for r in rings for at in range(0, len(r), period)]
    cv2.polylines(painted, dashes, False, _rgb(colour), 2)
    return painted


def _draw_box(
    draw: PIL.ImageDraw.ImageDraw, box: _Rectangle, colour: str, dashed: bool
) -> None:
    """Draw a frame in a halo, so that it is seen on any ground."""
    x1, x2 = sorted((box[0], box[2]))
    y1, y2 = sorted((box[1], box[3]))
    if not dashed:
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="white", width=5)
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=3)
        return
    sides = [(x1, y1, x2, y1), (x2, y1, x2, y2), (x2, y2, x1, y2), (x1, y2, x1, y1)]
    for ax, ay, bx, by in sides:
        draw.line((ax, ay, bx, by), fill="white", width=4)
        length = max(abs(bx - ax), abs(by - ay), 1.0)
        for start in np.arange(0, length, _DASH[0]):
            ends = [start / length, min(start + _DASH[1], length) / length]
            dash = [(ax + (bx - ax) * t, ay + (by - ay) * t) for t in ends]
            draw.line(dash, fill=colour, width=3)


def _draw_point(
    draw: PIL.ImageDraw.ImageDraw, point: _Rectangle, colour: str, dashed: bool
) -> None:
    """Draw a dot in a halo, or a ring for one that would be dashed."""
    x, y = point[:2]
    fills = (colour, "white", colour) if dashed else ("white", colour, "white")
    for radius, fill in zip((8, 6, 2), fills, strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _around(point: _Rectangle) -> _Rectangle:
    """Return the square that a drawn point fills."""
    x, y = point[:2]
    return x - 9, y - 9, x + 9, y + 9


def _draw_labels(
    draw: PIL.ImageDraw.ImageDraw,
    anchors: Sequence[_Rectangle],
    labels: Sequence[tuple[str, str]],
    canvas: tuple[int, int],
) -> None:
    """Write labels in the largest print in which all find room."""
    texts = [
        text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 3]}..."
        for text in (" ".join(label.split()) for label, _ in labels)
    ]
    for size in _FONT_SIZES:
        font = _font(size)
        pad = max(2, size // 4)
        sizes = []
        for text in texts:
            left, top, right, bottom = font.getbbox(text)
            sizes.append((right - left + 2 * pad, bottom - top + 2 * pad))
        places = place_labels(sizes, anchors, canvas)
        if None not in places:
            break
    for text, (_, colour), place, (width, height) in zip(
        texts, labels, places, sizes, strict=True
    ):
        if place is None:
            continue
        x, y = place
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        left, top, *_ = font.getbbox(text)
        draw.text((x + pad - left, y + pad - top), text, fill="white", font=font)


@functools.cache
def _font(size: int) -> PIL.ImageFont.FreeTypeFont:
    """Return matplotlib's own font, which is there wherever it is installed."""
    from matplotlib.font_manager import findfont

    return PIL.ImageFont.truetype(findfont("DejaVu Sans"), size)


def _rgb(colour: str) -> tuple[int, int, int]:
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
