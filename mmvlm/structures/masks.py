"""Masks: polygons and COCO's run lengths to pixels and back.

A mask is an (H, W) uint8 array of 0 and 1, flat rings ``x, y, x, y, ...`` in pixels,
or COCO's run lengths ``{"size": [h, w], "counts"}`` down the columns. Rings are
filled as pycocotools does, so that areas and IoUs are those of the public sets.
Run lengths from files are checked here before pycocotools sees them: its C code
trusts them and writes outside its memory when they are damaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from .annotation import Instance
from .conversation import Region

Size = tuple[int, int]


def check_polygons(polygons: object, size: Size) -> tuple[tuple[float, ...], ...]:
    """Return rings as tuples of floats.

    Args:
        polygons (object): what a file has: a list of flat rings.
        size (tuple[int, int]): height and width of the image.

    Raises:
        ValueError: for no list, an odd number of coordinates, fewer than three
            points, a coordinate that is no finite number, or a point further
            outside than the image is long.
    """
    if not isinstance(polygons, list | tuple) or not polygons:
        raise ValueError(f"polygons: expected a list of rings, got {polygons!r:.80}.")
    rings = []
    longest = max(size)
    for number, ring in enumerate(polygons):
        if not isinstance(ring, list | tuple) or not _are_finite(ring):
            raise ValueError(
                f"polygon {number}: expected a flat list of finite numbers "
                f"x, y, x, y, ..., got {ring!r:.80}."
            )
        if len(ring) % 2:
            raise ValueError(
                f"polygon {number}: {len(ring)} coordinates, an odd count."
            )
        if len(ring) < 6:
            raise ValueError(
                f"polygon {number}: {len(ring) // 2} point(s), expected three or more."
            )
        if min(ring) < -longest or max(ring) > 2 * longest:
            raise ValueError(
                f"polygon {number}: coordinates from {min(ring):g} to {max(ring):g} "
                f"lie far outside the image of {size[1]} x {size[0]} pixels."
            )
        rings.append(tuple(map(float, ring)))
    return tuple(rings)


def check_rle(rle: object, size: Size) -> dict:
    """Return run lengths in the compressed form, ``counts`` as text.

    Args:
        rle (object): what a file has: ``counts`` as a list or compressed.
        size (tuple[int, int]): height and width of the image.

    Raises:
        ValueError: for another size, or runs that do not fill the image.
    """
    if not isinstance(rle, dict) or not {"size", "counts"} <= set(rle):
        raise ValueError(f"RLE: expected {{'size', 'counts'}}, got {rle!r:.80}.")
    found = rle["size"]
    if not isinstance(found, list | tuple) or list(found) != list(size):
        raise ValueError(
            f"RLE: size {found!r:.40} (height, width), but the image is {list(size)}."
        )
    counts = rle["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    runs = _parse_counts(counts) if isinstance(counts, str) else counts
    whole = isinstance(runs, list) and all(
        isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in runs
    )
    if not whole:
        raise ValueError(f"RLE: damaged counts {counts!r:.60}.")
    if sum(runs) != size[0] * size[1]:
        raise ValueError(
            f"RLE: the runs cover {sum(runs)} pixels, but the image has "
            f"{size[0] * size[1]}."
        )
    if isinstance(counts, str):
        return {"size": list(size), "counts": counts}
    return _compress(runs, size)


def polygons_to_rle(polygons: Iterable[Sequence[float]], size: Size) -> dict:
    """Return the union of filled rings."""
    rings = [list(map(float, ring)) for ring in polygons]
    return _as_text(coco_mask.merge(coco_mask.frPyObjects(rings, *size)))


def polygons_to_mask(polygons: Iterable[Sequence[float]], size: Size) -> np.ndarray:
    """Return the union of filled rings: (H, W) uint8."""
    return rle_to_mask(polygons_to_rle(polygons, size))


def rle_to_mask(rle: dict) -> np.ndarray:
    """Return the pixels of checked run lengths: (H, W) uint8."""
    return np.ascontiguousarray(coco_mask.decode(rle))


def rle_runs(rle: dict) -> np.ndarray:
    """Return checked run lengths as numbers: (R,) int32, background first."""
    counts = rle["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    runs = _parse_counts(counts) if isinstance(counts, str) else counts
    return np.array(runs, dtype=np.int32)


def mask_to_rle(mask: np.ndarray) -> dict:
    """Return the run lengths of an array; what is not zero belongs to the mask.

    Raises:
        ValueError: when the array does not have two dimensions.
    """
    if mask.ndim != 2:
        raise ValueError(f"mask: expected (H, W), got {mask.shape}.")
    return _as_text(coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8)))


def mask_to_polygons(mask: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Return rectangles that tile a mask: exact, holes included, not a nice outline."""
    open_runs: dict[tuple[int, int], int] = {}
    rings = []
    padded = np.pad(mask != 0, ((0, 1), (1, 1))).astype(np.int8)
    for y, line in enumerate(np.diff(padded, axis=1)):
        starts, ends = np.flatnonzero(line == 1), np.flatnonzero(line == -1)
        runs = set(zip(starts.tolist(), ends.tolist(), strict=True))
        for x1, x2 in sorted(set(open_runs) - runs):
            y1 = open_runs.pop((x1, x2))
            rings.append(tuple(map(float, (x1, y1, x2, y1, x2, y, x1, y))))
        for run in runs:
            open_runs.setdefault(run, y)
    return tuple(rings)


def merge_rles(rles: Sequence[dict]) -> dict:
    """Return the union of checked run lengths of one size."""
    return _as_text(coco_mask.merge(list(rles)))


def rle_area(rle: dict) -> int:
    """Return the number of pixels."""
    return int(coco_mask.area(rle))


def rle_box(rle: dict) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 around all pixels, x2 and y2 behind the last ones."""
    x, y, width, height = coco_mask.toBbox(rle).tolist()
    return x, y, x + width, y + height


def label_map_rles(label_map: np.ndarray) -> dict[int, dict]:
    """Return the run lengths of every value of a label map, in one pass.

    Args:
        label_map (np.ndarray): (H, W) of integers.
    """
    size = label_map.shape
    flat = label_map.ravel(order="F")
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], borders])
    ends = np.concatenate([borders, [flat.size]])
    values = flat[starts]
    rles = {}
    for value in np.unique(values).tolist():
        own = values == value
        edges = np.stack([starts[own], ends[own]], axis=1).ravel()
        # Neighbouring runs of one value do not occur, so every run is a border.
        runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
        rles[value] = _compress(runs if runs[-1] else runs[:-1], size)
    return rles


def empty_rle(size: Size) -> dict:
    """Return the run lengths of a mask without a pixel."""
    return _compress([size[0] * size[1]], size)


def instance_rle(
    instance: Instance, size: Size, *, may_be_empty: bool = False
) -> dict | None:
    """Return an instance's mask; None where the file gives none.

    Args:
        instance (Instance): with polygons or run lengths.
        size (tuple[int, int]): height and width of the image.
        may_be_empty (bool): take run lengths without a pixel.

    Raises:
        ValueError: naming the instance, when its mask is damaged or holds no pixel.
    """
    if instance.rle is None and not instance.polygons:
        return None
    what = f"mask of instance '{instance.id or instance.name}'"
    try:
        if instance.rle is not None:
            rle = check_rle(instance.rle, size)
        else:
            rle = polygons_to_rle(check_polygons(instance.polygons, size), size)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    if not rle_area(rle) and not (may_be_empty and instance.rle is not None):
        raise ValueError(f"{what}: empty, no pixel of the image belongs to it.")
    return rle


def region_rle(region: Region, number: int = 0) -> dict:
    """Return a mask of a region of kind ``mask``, in pixels of the image.

    It may have no pixel where its box has no area: what is asked for is not there.

    Args:
        region (Region): with polygons or run lengths.
        number (int): which of its masks.

    Raises:
        ValueError: when it has no such mask, or a damaged one.
    """
    instance = Instance(
        id=f"region {number}",
        polygons=region.polygons[number] if region.polygons else (),
        rle=region.rles[number] if region.rles else None,
    )
    x1, y1, x2, y2 = region.boxes.xyxy[number] if len(region.boxes) else (0,) * 4
    flat = x1 == x2 and y1 == y2
    rle = instance_rle(instance, region.boxes.size, may_be_empty=flat)
    if rle is None:
        raise ValueError(f"region of kind '{region.kind}' has no mask.")
    return rle


def union_rle(instances: Iterable[Instance], size: Size) -> dict:
    """Return the union of the masks of instances.

    Raises:
        ValueError: naming an instance without a mask, or with a damaged one.
    """
    rles = []
    for instance in instances:
        rle = instance_rle(instance, size)
        if rle is None:
            raise ValueError(
                f"instance '{instance.id or instance.name}' has no mask (polygons or "
                "RLE)."
            )
        rles.append(rle)
    return merge_rles(rles)


def draw_outlined(mask: np.ndarray, points: Sequence, value: int) -> None:
    """Draw a polygon as LISA does: whole pixels, filled, with its outline.

    Coordinates lose their fraction, and the closed outline, one pixel wide, belongs
    to the polygon, so it reaches further than COCO's filling.

    Args:
        mask (np.ndarray): (H, W) uint8, drawn into.
        points (Sequence): pairs x, y.
        value (int): what its pixels become.
    """
    import cv2

    corners = np.array([points], dtype=np.float64).astype(np.int32)
    cv2.polylines(mask, corners, True, value, 1)
    cv2.fillPoly(mask, corners, value)


def _are_finite(ring: Sequence) -> bool:
    """Whether all are numbers and none is NaN or infinite: fast, rings are long."""
    if not set(map(type, ring)) <= {int, float}:
        return False
    try:
        return math.isfinite(sum(map(float, ring)))
    except OverflowError:  # an integer beyond all floats
        return False


def _parse_counts(text: str) -> list[int] | None:
    """Read COCO's compressed runs; None when they are damaged.

    A run is written in digits of five bits, lowest first, each plus 48; bit 32
    says that more follow and bit 16 of the last one carries the sign. From the
    fourth run on, what is written is the difference to the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for char in text:
        digit = ord(char) - 48
        if not 0 <= digit < 64 or shift > 30:
            return None
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        runs.append(value)
        value = shift = 0
    return None if shift else runs


def _compress(runs: list[int], size: Size) -> dict:
    rle = {"size": list(size), "counts": runs}
    return _as_text(coco_mask.frPyObjects(rle, *size))


def _as_text(rle: dict) -> dict:
    """Make run lengths fit for JSON."""
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
