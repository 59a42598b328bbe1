"""NExT-Chat's head: the state of a token to the box that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import l1_loss

from mmvlm.models.utils.feed import Feed
from mmvlm.registry import MODELS
from mmvlm.structures import Boxes, Region, Targets, ViewLayout, VLMDataSample
from mmvlm.structures.region_pixels import from_view

from .base import Head, LossTerm


@MODELS.register_module()
class BoxRegressionHead(Head):
    """Two layers turn a state into ``x1, y1, x2, y2``, fractions of the view.

    The reply says one token per box and no numeral, so a box costs one step of
    generation, and the loss knows how far a wrong box is from the right one. How the
    boxes of questions are read is up to a region encoder, :class:`BoxEncoder` in the
    paper.

    Paper: Zhang et al., "NExT-Chat: An LMM for Chat, Detection and Segmentation", ICML
    2024, arXiv 2311.04498. Deviations: an answer says the trigger alone, without the
    embedding of its box behind it; there are no cycle losses between this layer and the
    encoder of boxes; a box whose corners are swapped, which has no GIoU loss, still
    counts in the mean.

    Args:
        token (str): trigger that stands for a box in answers.
        **kwargs: see :class:`Head`; in the paper ``position="at"``, and weights of 2.0
            for ``box_l1`` and 0.2 for ``box_giou``.

    Trainable parameters: Dl*Dl/2 + Dl/2 for the first layer, 2*Dl + 4 for the second.
    """

    terms = ("box_l1", "box_giou")

    def __init__(self, token: str = "<at>", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tokens = (token,)
        inner = self.in_width // 2
        self.loc_decoder = nn.Sequential(
            nn.Linear(self.in_width, inner), nn.ReLU(), nn.Linear(inner, 4)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Decode boxes; nothing holds them inside the view.

        Shape:
            - ``hidden``: (K, Dl)
            - output: (K, 4), float32
        """
        return self.loc_decoder(hidden.to(self.loc_decoder[0].weight.dtype)).float()

    def loss(
        self, hidden: torch.Tensor, targets: Targets | None, feed: Feed
    ) -> dict[str, LossTerm]:
        """Sum the mean distance of coordinates, and 1 - GIoU, over all boxes.

        Shape:
            - ``hidden``: (K, Dl)
            - ``targets.values.values``: (K, 4), float32
        """
        found, goal = self(hidden), targets.values.values
        distance = l1_loss(found, goal, reduction="sum") / 4
        ordered = (found[:, 2:] >= found[:, :2]).all(1)
        apart = (1 - paired_giou(found[ordered], goal[ordered])).sum()
        sums = zip(self.terms, (distance, apart), strict=True)
        return {name: LossTerm(total, len(targets)) for name, total in sums}

    def predict(
        self,
        states: Sequence[torch.Tensor],
        samples: Sequence[VLMDataSample],
        feed: Feed,
    ) -> None:
        """Give the regions of replies their boxes, in pixels of the image."""
        for own, sample in zip(states, samples, strict=True):
            if len(own):
                _fill(sample, self(own).cpu().double().numpy())


def paired_giou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the generalised IoU of boxes, row by row.

    Paper: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, arXiv
    1902.09630.

    Shape:
        - ``first``, ``second``: (K, 4), x1 <= x2 and y1 <= y2
        - output: (K,), -1 to 1
    """
    tiny = torch.finfo(first.dtype).tiny
    near = torch.stack([first[:, :2], second[:, :2]])
    far = torch.stack([first[:, 2:], second[:, 2:]])
    inter = (far.amin(0) - near.amax(0)).clamp(min=0).prod(1)
    union = (far - near).prod(2).sum(0) - inter
    hull = (far.amax(0) - near.amin(0)).prod(1)
    return inter / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def _fill(sample: VLMDataSample, rows: np.ndarray) -> None:
    """Put boxes (K, 4), fractions of the view, into a reply's regions, in order."""
    left, lost = iter(rows), []
    regions = []
    for number, region in enumerate(getattr(sample, "pred_regions", ())):
        row = next(left, None) if region.kind == "box" else None
        if row is not None and not np.isfinite(row).all():
            lost.append(number)
        elif row is not None:
            region = _with_box(region, row, sample.layouts[region.image])
        regions.append(region)
    if lost:
        sample.problems = (
            *getattr(sample, "problems", ()),
            f"boxes {lost}: their coordinates are not finite",
        )
    sample.pred_regions = tuple(regions)


def _with_box(region: Region, row: np.ndarray, layout: ViewLayout) -> Region:
    size = tuple(layout.original_size)
    corners = from_view(row.reshape(2, 2), layout, size)
    return replace(region, boxes=Boxes(corners.reshape(1, 4), size))
