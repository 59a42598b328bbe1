"""Plain joins of several layers: the baselines of MMFuser's ablation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec, VisionFeatures

from .base import Fuser


def _fused(features: VisionFeatures, patches: torch.Tensor) -> VisionFeatures:
    return VisionFeatures((patches,), (0,), features.grid, 0, features.layouts)


@MODELS.register_module()
class LayerMeanFuser(Fuser):
    """Average the selected layers, with equal or learned weights.

    Paper: Cao et al., "MMFuser: Multimodal Multi-Layer Feature Fuser for
    Fine-Grained Vision-Language Understanding", 2024, arXiv 2410.11829 (naive
    fusion baselines; their module shapes are unpublished and ours here).

    Args:
        learned (bool): learn one weight per layer (a softmax, equal at first).
        **kwargs: see :class:`Fuser`.

    Trainable parameters: number of layers when ``learned``, else 0.
    """

    default_layers = (3, 8, 13, 18, 23)

    def __init__(self, *, learned: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        scores = torch.zeros(len(self.select_layers))
        if learned:
            self.scores = nn.Parameter(scores)
        else:  # no parameter, which training the connector would set free
            self.register_buffer("scores", scores, persistent=False)

    def forward(self, features: VisionFeatures) -> VisionFeatures:
        """Average the patches.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv), V may be 0
            - output ``hidden_states[0]``: (V, N, Dv)
        """
        layers = [features.patches(i) for i in range(len(self.select_layers))]
        weights = self.scores.float().softmax(0).to(layers[0].dtype)
        mean = sum(w * x for w, x in zip(weights, layers, strict=True))
        return _fused(features, mean)

    @classmethod
    def tiny(cls, vision_spec: VisionEncoderSpec | None = None) -> LayerMeanFuser:
        """Build one over two layers, with learned weights."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec, select_layers=(1, -2), learned=True)


@MODELS.register_module()
class LayerConcatFuser(Fuser):
    """Concatenate the selected layers on channels.

    Paper: the channel-concatenation baseline of MMFuser, arXiv 2410.11829.

    Args:
        **kwargs: see :class:`Fuser`.

    Trainable parameters: 0.
    """

    default_layers = (3, 8, 13, 18, 23)

    @property
    def out_spec(self) -> VisionEncoderSpec:
        """As many times the encoder's width as there are layers."""
        width = self.vision_spec.width * len(self.select_layers)
        return replace(super().out_spec, width=width)

    def forward(self, features: VisionFeatures) -> VisionFeatures:
        """Concatenate the patches.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv), V may be 0
            - output ``hidden_states[0]``: (V, N, layers * Dv)
        """
        layers = [features.patches(i) for i in range(len(self.select_layers))]
        return _fused(features, torch.cat(layers, -1))

    @classmethod
    def tiny(cls, vision_spec: VisionEncoderSpec | None = None) -> LayerConcatFuser:
        """Build one over two layers."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec, select_layers=(1, -2))
