"""A feature pyramid over layers of one encoder: a baseline of MMFuser's ablation."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec, VisionFeatures

from .base import Fuser


@MODELS.register_module()
class FPNFuser(Fuser):
    """Lateral layers, a top-down sum, and a 3 x 3 convolution on the result.

    All layers of a plain transformer have the same grid, so nothing is resized;
    the map that is kept is the one of the first layer, which every deeper one
    flows into.

    Paper: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017,
    arXiv 1612.03144; as a baseline in MMFuser, arXiv 2410.11829 (its module
    shapes are unpublished and ours here).

    Args:
        **kwargs: see :class:`Fuser`.

    Trainable parameters: with L layers L*(C*C + C) + 9*C*C + C.
    """

    default_layers = (3, 8, 13, 18, 23)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        width = self.vision_spec.width
        self.laterals = nn.ModuleList(
            nn.Linear(width, width) for _ in self.select_layers
        )
        self.smooth = nn.Conv2d(width, width, 3, padding=1)
        for lateral in self.laterals:
            nn.init.xavier_uniform_(lateral.weight)
            nn.init.zeros_(lateral.bias)
        nn.init.xavier_uniform_(self.smooth.weight)
        nn.init.zeros_(self.smooth.bias)

    def forward(self, features: VisionFeatures) -> VisionFeatures:
        """Sum the lateral maps and smooth them.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv), V may be 0
            - output ``hidden_states[0]``: (V, N, Dv)
        """
        maps = [
            lateral(features.patches(position))
            for position, lateral in enumerate(self.laterals)
        ]
        joined = sum(maps).transpose(1, 2).unflatten(2, features.grid)
        smooth = self.smooth(joined).flatten(2).transpose(1, 2)
        return VisionFeatures((smooth,), (0,), features.grid, 0, features.layouts)

    @classmethod
    def tiny(cls, vision_spec: VisionEncoderSpec | None = None) -> FPNFuser:
        """Build one over two layers."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec, select_layers=(1, -2))
