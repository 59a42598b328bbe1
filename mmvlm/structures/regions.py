"""Regions as a model takes them: boxes, points and small masks, no full images.

All numbers are fractions of one view, the one that shows the whole image, so that
no part of the model asks how large an image was or how it was padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .batch import Inputs, SampleInputs
from .region_needs import RegionNeeds as RegionNeeds
from .vision import InputLayout

REGION = "region"
#: Value of a mask's cell that the region covers wholly.
COVERED = 255


@dataclass(frozen=True)
class RegionLayout(InputLayout):
    """What is known of a region on the host.

    Args:
        cells (int): of its mask, that belong to it (:func:`covered_cells`); 0 without
            a mask.
    """

    modality: str = REGION
    shape: tuple[int, ...] = (4,)
    cells: int = 0


@dataclass(frozen=True)
class CoveredTokenCount:
    """One token per cell of the region's mask that belongs to the region."""

    def __call__(self, layout: RegionLayout) -> int:
        """Return the number of cells.

        Raises:
            ValueError: for a region without a mask.
        """
        if not getattr(layout, "cells", 0):
            raise ValueError(
                f"{layout}: the length of a region's tokens is that of its mask, but "
                "none was made. Put PrepareRegions in front of EncodeConversation."
            )
        return layout.cells


def covered_cells(mask: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """Return which cells of a mask (m, m) belong to the region: bool, at least one.

    Those that it covers by half or more; where there is none, those that it covers
    most.
    """
    return mask >= min(COVERED // 2 + 1, int(mask.max()))


@dataclass
class RegionInputs:
    """The regions of a batch, as region encoders take them.

    Shape:
        - ``boxes``: (R, 4), float32, x1, y1, x2, y2 as fractions of the view
        - ``views``: (R,), int64, which view of the features each lies in
        - ``points``: (R, P, 2), float32, x and y of pixels of the region; the first
          ``num_points`` (R,) are distinct, the others repeat them
        - ``draws``: (R, S), float32, random numbers in [0, 1)
        - ``masks``: (R, m, m), uint8, share of each cell that is covered, of 255

    Args:
        lengths (tuple[int, ...]): slots of each region, on the host.
    """

    boxes: torch.Tensor
    views: torch.Tensor
    points: torch.Tensor | None = None
    num_points: torch.Tensor | None = None
    draws: torch.Tensor | None = None
    masks: torch.Tensor | None = None
    lengths: tuple[int, ...] = field(default_factory=tuple)

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(
        cls, inputs: Inputs, numbers: Sequence[int], views: torch.Tensor
    ) -> RegionInputs:
        """Return some regions of a batch.

        Args:
            inputs (Inputs): of kind ``region``.
            numbers (Sequence[int]): which of them.
            views (torch.Tensor): view of each of these.
        """
        rows = list(numbers)
        lengths = tuple(inputs.slot_lens[n] for n in rows) if inputs.slot_lens else ()
        extra = {name: value[rows] for name, value in inputs.extra.items()}
        return cls(inputs.values[rows], views, lengths=lengths, **extra)


def join_regions(
    arrays: Sequence[dict[str, np.ndarray]],
    layouts: Sequence[RegionLayout],
    parent: Sequence[int],
) -> SampleInputs:
    """Join the regions of a sample: ``boxes`` and further arrays, one dict each."""
    stacked = {
        name: torch.from_numpy(np.stack([one[name] for one in arrays]))
        for name in arrays[0]
    }
    boxes = stacked.pop("boxes")
    return SampleInputs(boxes, tuple(layouts), tuple(parent), extra=stacked)
