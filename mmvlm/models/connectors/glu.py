"""CogVLM's connector: a gated MLP over every patch, between two learned marks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import silu

from mmvlm.registry import MODELS
from mmvlm.structures import PatchTokenCount, VisionFeatures

from .base import Connector


@MODELS.register_module()
class GLUConnector(Connector):
    """Linear, LN, GELU, gated MLP; every view between learned ``boi`` and ``eoi``.

    Paper: Wang et al., "CogVLM: Visual Expert for Pretrained Language Models",
    NeurIPS 2024, arXiv 2311.03079. Deviations: none.

    Args:
        hidden_width (int | None): of the gated MLP (Dh); None takes 2 * Dl. CogVLM:
            the language model's MLP width.
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: not exactly one layer.

    Trainable parameters: Dv*Dl + 2*Dl + 3*Dl*Dh + 2*Dl.
    """

    default_layers = (-1,)
    one_layer = True

    def __init__(self, *, hidden_width: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        hidden = hidden_width or 2 * self.out_width
        self.linear_proj = nn.Linear(self.vision_spec.width, self.out_width, bias=False)
        self.norm1 = nn.LayerNorm(self.out_width)
        self.dense_h_to_4h = nn.Linear(self.out_width, hidden, bias=False)
        self.gate_proj = nn.Linear(self.out_width, hidden, bias=False)
        self.dense_4h_to_h = nn.Linear(hidden, self.out_width, bias=False)
        self.boi = nn.Parameter(torch.zeros(1, 1, self.out_width))
        self.eoi = nn.Parameter(torch.zeros(1, 1, self.out_width))

    @property
    def token_count(self) -> PatchTokenCount:
        """One token per patch, and two marks per view."""
        return PatchTokenCount(self.vision_spec.patch_size, extra=2)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Map patches without the marks: (..., Dv) to (..., Dl)."""
        x = nn.functional.gelu(self.norm1(self.linear_proj(x)))
        return self.dense_4h_to_h(silu(self.gate_proj(x)) * self.dense_h_to_4h(x))

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Project every patch and put the marks around each view.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (V, N + 2, Dl)
        """
        x = self.project(features.patches(0))
        marks = (m.to(x.dtype).expand(len(x), -1, -1) for m in (self.boi, self.eoi))
        first, last = marks
        return torch.cat([first, x, last], 1)
