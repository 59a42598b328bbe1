"""From annotated regions to pixels, and from there to fractions of a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .conversation import Region
from .dual_perspective import DualPerspective
from .masks import polygons_to_mask, rle_to_mask
from .regions import COVERED
from .vision import LayoutError, ViewLayout

#: Pixels on each side of a point that belong to it, as in Ferret.
POINT_REACH = 5


def whole_view(layout: ViewLayout) -> int:
    """Return which view of an image shows all of it, to which its scale refers.

    Raises:
        LayoutError: when none does.
    """
    if layout.num_views == 1 or layout.kind in ("anyres", "slices"):
        return 0
    if layout.kind == "windows":
        return layout.num_views - 1
    dual = DualPerspective.of(layout)
    if dual is None or "resized" not in dual.kinds:
        raise LayoutError(
            f"none of the {layout.num_views} views of the layout '{layout.kind}' shows "
            "the whole image, so regions have no place in them; take a view "
            "transform with such a view (ResizeSquare, PadToSquare, AnyResTiles)."
        )
    return dual.span("resized").start


@dataclass(frozen=True)
class RegionPixels:
    """The pixels of a region in its image.

    Args:
        x, y (int): of the window's first pixel.
        inside (np.ndarray): (h, w) bool, which pixels of the window belong to it.
    """

    x: int
    y: int
    inside: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Of the window, far edges behind its last pixels."""
        height, width = self.inside.shape
        return self.x, self.y, self.x + width, self.y + height


def region_pixels(region: Region) -> RegionPixels:
    """Return the pixels that a region covers, by Ferret's rules.

    A box holds whole pixels, its far edges included; a point is the window of 11 x 11
    pixels around it. Both are cut to the mask of the object where the region has one,
    unless nothing is left.

    Args:
        region (Region): pixels of an image of ``region.boxes.size``.

    Raises:
        ValueError: when it has no pixel in its image.
    """
    height, width = region.boxes.size
    last = np.array([width - 1, height - 1])
    shown = region.boxes.to("pixel").xyxy
    if region.kind == "point":
        first = np.maximum(shown[:, :2] - POINT_REACH, 0).astype(int)
        end = np.minimum(shown[:, :2] + POINT_REACH + 1, [width, height]).astype(int)
    else:
        first = np.clip(shown[:, :2], 0, last).astype(int)
        end = np.clip(shown[:, 2:], 0, last).astype(int) + 1
        away = (shown[:, 2:] < 0) | (shown[:, :2] >= [width, height])
        end[away.any(1)] = 0
    kept = (end > first).all(1)
    if not kept.any():
        raise ValueError(
            f"the {region.kind} {shown.tolist()} has no pixel in its image of "
            f"{width} x {height} pixels; give its place in pixels of the image in "
            "full size, or leave the sample out (bad_samples)."
        )
    x1, y1 = first[kept].min(0)
    x2, y2 = end[kept].max(0)
    window = np.zeros((y2 - y1, x2 - x1), bool)
    for (left, top), (right, bottom) in zip(first[kept], end[kept], strict=True):
        window[top - y1 : bottom - y1, left - x1 : right - x1] = True
    thing = _object_mask(region)
    if thing is not None:
        cut = window & thing[y1:y2, x1:x2]
        window = cut if cut.any() else window
    return RegionPixels(int(x1), int(y1), window)


def _object_mask(region: Region) -> np.ndarray | None:
    """Return the pixels (H, W) of what a region lies on; None where it is not known."""
    size = region.boxes.size
    masks = [rle_to_mask(rle) for rle in region.rles if rle]
    if not masks:
        masks = [
            _filled(rings, size, region.kind) for rings in region.polygons if rings
        ]
    return np.any(masks, axis=0) if masks else None


def _filled(rings: Sequence, size: tuple[int, int], kind: str) -> np.ndarray:
    """Fill rings; the box that a point lies in holds its far edges, as boxes do."""
    corners = np.reshape(rings[0], (-1, 2)) if len(rings) == 1 else np.zeros((0, 2))
    if kind != "point" or len(corners) != 4:
        return polygons_to_mask(rings, size)
    (x1, y1), (x2, y2) = corners.min(0).astype(int), corners.max(0).astype(int)
    mask = np.zeros(size, np.uint8)
    mask[max(y1, 0) : y2 + 1, max(x1, 0) : x2 + 1] = 1
    return mask


def visible_part(
    pixels: RegionPixels, layout: ViewLayout, size: tuple[int, int]
) -> RegionPixels:
    """Return what of a region the view shows: all of it, unless the view is a crop.

    Raises:
        ValueError: when that is nothing.
    """
    scale, offset = view_transform(layout, size)
    first, end = (np.ceil((edge - offset) / scale - 1e-6) for edge in (0, 1))
    (x1, y1), (x2, y2) = first.astype(int), end.astype(int)
    left, top = max(x1 - pixels.x, 0), max(y1 - pixels.y, 0)
    inside = pixels.inside[top : max(y2 - pixels.y, 0), left : max(x2 - pixels.x, 0)]
    if not inside.any():
        raise ValueError(
            f"the view ('{layout.kind}') cuts away the pixels {pixels.box} of a "
            f"image of {size[1]} x {size[0]} pixels; take a view transform that "
            "shows the whole image (ResizeSquare, PadToSquare)."
        )
    return RegionPixels(pixels.x + left, pixels.y + top, inside)


def to_view(
    places: np.ndarray, layout: ViewLayout, size: tuple[int, int]
) -> np.ndarray:
    """Return places as fractions of the view.

    Args:
        places (np.ndarray): (..., 2), x and y in an image of ``size`` pixels.
        layout (ViewLayout): of the image, stored at its ``original_size``.
        size (tuple[int, int]): height and width that the places refer to.

    """
    scale, offset = view_transform(layout, size)
    return places * scale + offset


def from_view(
    places: np.ndarray, layout: ViewLayout, size: tuple[int, int]
) -> np.ndarray:
    """Undo :func:`to_view`: return fractions of the view as places in the image."""
    scale, offset = view_transform(layout, size)
    return (places - offset) / scale


def view_transform(
    layout: ViewLayout, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and offset (x, y) from pixels to fractions of the view."""
    stored = np.array(layout.original_size[::-1]) / np.array(size[::-1])
    view = np.array(layout.view_size[::-1])
    return stored * np.array(layout.scale) / view, np.array(layout.offset) / view


def view_mask(
    pixels: RegionPixels, layout: ViewLayout, size: tuple[int, int], side: int
) -> np.ndarray:
    """Return how much of every cell of the view a region covers: (side, side) uint8.

    Exact areas, of 255 and rounded up, so that what is small does not vanish.
    """
    scale, offset = view_transform(layout, size)
    shares = []
    for axis, first in ((1, pixels.y), (0, pixels.x)):
        edges = (np.arange(side + 1) / side - offset[axis]) / scale[axis]
        places = first + np.arange(pixels.inside.shape[1 - axis])
        over = np.minimum(edges[1:, None], places + 1) - np.maximum(
            edges[:-1, None], places
        )
        shares.append(over.clip(0) / np.diff(edges)[:, None])
    rows, columns = (share.astype(np.float32) for share in shares)
    covered = rows @ pixels.inside.astype(np.float32) @ columns.T
    return np.ceil(covered * COVERED - 1e-3).clip(0, COVERED).astype(np.uint8)


def draw_points(
    pixels: RegionPixels, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Draw pixels of a region: ``count`` different ones, or all and some again.

    Returns:
        tuple: (count, 2) int64, x and y, and how many of them, the first, differ.
    """
    flat = np.flatnonzero(pixels.inside)
    if len(flat) > count:
        chosen, distinct = rng.choice(flat, count, replace=False), count
    else:
        again = rng.integers(len(flat), size=count - len(flat))
        chosen, distinct = np.concatenate([flat, flat[again]]), len(flat)
    y, x = np.divmod(chosen, pixels.inside.shape[1])
    return np.stack([x + pixels.x, y + pixels.y], axis=1), distinct
