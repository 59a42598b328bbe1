"""InternVL's connector: neighbouring patches become channels, then an MLP."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import PatchTokenCount, VisionFeatures

from .base import Connector


def patches_to_channels(
    patches: torch.Tensor, grid: tuple[int, int], shrink: int
) -> torch.Tensor:
    """Join every block of ``shrink`` x ``shrink`` patches to one wide token.

    Channels of a block come row by row. A grid that does not divide is filled up
    with zeros on the right and below.

    Shape:
        - ``patches``: (V, H * W, D) with ``grid`` = (H, W)
        - output: (V, ceil(H / shrink) * ceil(W / shrink), shrink * shrink * D)
    """
    rows, cols = grid
    grown = patches.unflatten(1, (rows, cols))
    grown = nn.functional.pad(grown, (0, 0, 0, -cols % shrink, 0, -rows % shrink))
    blocks = grown.unflatten(2, (-1, shrink)).unflatten(1, (-1, shrink))
    # (V, rows, shrink, cols, shrink, D) -> (V, rows, cols, shrink, shrink, D)
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


@MODELS.register_module()
class PixelShuffleConnector(Connector):
    """Fold blocks of patches into channels, then norm and a two-layer MLP.

    Takes a quarter of the tokens at ``shrink=2`` and keeps all values, where
    pooling would average them. Its tokens still form a grid, so
    ``AnyResConnector`` can join tiles behind it.

    Paper: Chen et al., "How Far Are We to GPT-4V? Closing the Gap to Commercial
    Multimodal Models with Open-Source Suites", 2024, arXiv 2404.16821.
    Deviations: grids that do not divide are filled up with zeros; theirs must
    divide.

    Args:
        shrink (int): side of a block in patches (their ratio is 1 / shrink).
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: ``shrink`` below 1, or not exactly one layer.

    Trainable parameters: 2*C + C*Dl + Dl + Dl*Dl + Dl with C = shrink^2 * Dv.
    """

    default_layers = (-1,)
    one_layer = True

    def __init__(self, *, shrink: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if shrink < 1:
            raise ValueError(f"PixelShuffleConnector: shrink={shrink}, expected >= 1.")
        self.shrink = shrink
        width = self.vision_spec.width * shrink**2
        self.proj = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, self.out_width),
            nn.GELU(),
            nn.Linear(self.out_width, self.out_width),
        )

    @property
    def token_count(self) -> PatchTokenCount:
        """One token per block of patches."""
        return PatchTokenCount(self.vision_spec.patch_size, shrink=self.shrink)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Fold and project every view.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (V, ceil(H / shrink) * ceil(W / shrink), Dl)
        """
        return self.proj(
            patches_to_channels(features.patches(0), features.grid, self.shrink)
        )
