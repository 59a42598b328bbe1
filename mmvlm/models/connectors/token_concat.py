"""MiniGPT-v2's connector: neighbouring tokens side by side, then one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import pad

from mmvlm.registry import MODELS
from mmvlm.structures import ViewLayout, VisionEncoderSpec, VisionFeatures

from .base import Connector


@dataclass(frozen=True)
class ConcatTokenCount:
    """One token per ``group`` consecutive patches of a view, the rest rounded up."""

    patch_size: int
    group: int

    def __call__(self, layout: ViewLayout) -> int:
        """Return ``num_views * ceil(H * W / group)``."""
        rows, cols = (side // self.patch_size for side in layout.view_size)
        return layout.num_views * -(-rows * cols // self.group)


@MODELS.register_module()
class TokenConcatConnector(Connector):
    """Join consecutive tokens of the raster on channels, then project linearly.

    Four times fewer tokens without a resampler: 448 pixels of EVA-ViT-g are 1024
    patches and 256 tokens. The class token is left out.

    Paper: Chen et al., "MiniGPT-v2: large language model as a unified interface for
    vision-language multi-task learning", 2023, arXiv 2310.09478. Deviations: where
    patches do not divide by ``group`` (never at the official sizes) the last group
    is filled with zeros; the official code fails.

    Args:
        vision_spec (VisionEncoderSpec): filled in by the VLM.
        out_width (int): Dl, filled in by the VLM.
        group (int): consecutive tokens that become one.
        vision_norm (bool): LayerNorm on the image tokens first (``ln_vision``).
        select_layers (Sequence[int]): exactly one hidden state.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: not exactly one layer, or ``group`` below 1.

    Trainable parameters: group*Dv*Dl + Dl, and 2*Dv for ``vision_norm``.

    """

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        group: int = 4,
        vision_norm: bool = True,
        select_layers: Sequence[int] = (-1,),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            vision_spec=vision_spec,
            out_width=out_width,
            select_layers=select_layers,
            init_cfg=init_cfg,
        )
        if len(self.select_layers) != 1:
            raise ValueError(
                f"TokenConcatConnector: select_layers={list(self.select_layers)}, "
                "expected exactly one layer."
            )
        if group < 1:
            raise ValueError(
                f"TokenConcatConnector: group={group}, expected at least 1."
            )
        self.group = group
        width = vision_spec.width
        self.ln_vision = nn.LayerNorm(width) if vision_norm else nn.Identity()
        self.proj = nn.Linear(group * width, out_width)

    @property
    def token_count(self) -> ConcatTokenCount:
        """One token per group of patches."""
        return ConcatTokenCount(self.vision_spec.patch_size, self.group)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Join and project.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (V, ceil(N / group), Dl)
        """
        patches = self.ln_vision(features.patches(0))
        short = -patches.shape[1] % self.group
        if short:
            patches = pad(patches, (0, 0, 0, short))
        return self.proj(patches.unflatten(1, (-1, self.group)).flatten(2))
