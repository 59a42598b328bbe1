"""Images at their own resolution: sizes, patches and positions on three axes.

Their views are patches, one after the other, those of all images of a batch in one
tensor; the layout of an image has one grid (t, h, w) of patches, where t counts steps
in time and is 1 for an image. Patches of a block of ``merge`` x ``merge``, which the
encoder joins to one token, are neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .encoded import EncodedSample
from .vision import LayoutError, ViewLayout

#: ``ViewLayout.kind`` of images that come as patches.
NATIVE = "native"
Grid = tuple[int, int, int]
Size = tuple[int, int]


def native_size(
    height: int, width: int, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """Return a size of whole blocks with nearly the image's aspect ratio (Qwen2-VL).

    Args:
        height (int): of the image, in pixels.
        width (int): likewise.
        factor (int): pixels per side of a block.
        min_pixels (int): least area; smaller images are enlarged.
        max_pixels (int): largest area; larger images are shrunk.

    Raises:
        ValueError: for an image more than 200 times as long as wide.
    """
    if max(height, width) > 200 * min(height, width):
        raise ValueError(
            f"an image of {height} x {width} pixels is more than 200 times as long as "
            "wide; crop it."
        )
    rows, cols = round(height / factor), round(width / factor)
    area, block = height * width, factor * factor
    if rows * cols * block > max_pixels:
        shrink = math.sqrt(area / max_pixels)
        rows = max(1, math.floor(height / shrink / factor))
        cols = max(1, math.floor(width / shrink / factor))
    elif rows * cols * block < min_pixels:
        grow = math.sqrt(min_pixels / area)
        rows = math.ceil(height * grow / factor)
        cols = math.ceil(width * grow / factor)
    return rows * factor, cols * factor


def to_patches(image: np.ndarray, patch: int, merge: int) -> np.ndarray:
    """Cut an image into patches, block by block.

    Shape:
        - ``image``: (H, W, 3), whole blocks
        - output: (P, 3, patch, patch)
    """
    height, width = image.shape[:2]
    rows, cols = height // patch // merge, width // patch // merge
    parts = image.reshape(rows, merge, patch, cols, merge, patch, 3)
    parts = parts.transpose(0, 3, 1, 4, 6, 2, 5)
    return np.ascontiguousarray(parts).reshape(-1, 3, patch, patch)


def from_patches(patches: np.ndarray, grid: Grid, merge: int) -> np.ndarray:
    """Undo :func:`to_patches`: (P, 3, patch, patch) to (H, W, 3)."""
    _, rows, cols = grid
    patch = patches.shape[-1]
    parts = patches.reshape(rows // merge, cols // merge, merge, merge, 3, patch, patch)
    parts = parts.transpose(0, 2, 5, 1, 3, 6, 4)
    return parts.reshape(rows * patch, cols * patch, 3)


def native_layout(grid: Grid, patch: int, original_size: Size) -> ViewLayout:
    """Return the layout of an image of so many patches.

    Args:
        grid (Grid): patches (t, h, w).
        patch (int): pixels per side of a patch.
        original_size (Size): height and width of the image in pixels.
    """
    _, rows, cols = grid
    height, width = original_size
    return ViewLayout(
        original_size=original_size,
        view_size=(patch, patch),
        num_views=math.prod(grid),
        kind=NATIVE,
        scale=(cols * patch / width, rows * patch / height),
        grids=(grid,),
    )


@dataclass(frozen=True)
class BlockTokenCount:
    """One token per block of patches.

    Args:
        merge (int): patches per side of a block.
    """

    merge: int

    def __call__(self, layout: ViewLayout) -> int:
        """Return the LLM positions of one image.

        Raises:
            LayoutError: for an image that does not come as patches.
        """
        if layout.kind != NATIVE:
            raise LayoutError(
                f"an image of {layout.num_views} views ('{layout.kind}') for an "
                "encoder of patches; put NativeResolution into the pipeline."
            )
        return layout.num_views // self.merge**2


def axis_positions(
    sample: EncodedSample, grids: Sequence[Grid], merge: int = 2, kind: str = "image"
) -> np.ndarray:
    """Return positions in time, height and width of every token (M-RoPE).

    Text counts on all three axes alike. The tokens of an image stand in a grid behind
    the last position before it, and the text behind it goes on after the largest of
    theirs.

    Paper: Wang et al., "Qwen2-VL: Enhancing Vision-Language Model's Perception of the
    World at Any Resolution", 2024, arXiv 2409.12191.

    Args:
        sample (EncodedSample): with the slots of its images.
        grids (Sequence[Grid]): patches of every image.
        merge (int): patches per side that become one token.
        kind (str): of the slots that have grids; others count as text.

    Returns:
        np.ndarray: (3, T), int64.

    Raises:
        ValueError: when a slot has another length than its grid.
    """
    positions = np.empty((3, len(sample.input_ids)), np.int64)
    at = following = 0
    slots = [slot for slot in sample.slots if slot.modality == kind]
    for slot in sorted(slots, key=lambda slot: slot.start):
        frames, rows, cols = grids[slot.index]
        shape = (frames, rows // merge, cols // merge)
        if slot.length != math.prod(shape):
            raise ValueError(
                f"image {slot.index}: a slot of {slot.length} tokens for a grid of "
                f"{shape}."
            )
        positions[:, at : slot.start] = np.arange(slot.start - at) + following
        following += slot.start - at
        at = slot.start + slot.length
        places = np.indices(shape).reshape(3, -1)
        positions[:, slot.start : at] = places + following
        following += max(shape)
    positions[:, at:] = np.arange(positions.shape[1] - at) + following
    return positions
