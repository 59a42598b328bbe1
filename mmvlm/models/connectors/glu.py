"""CogVLM's connector: a gated MLP over every patch, between two learned marks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import silu

from mmvlm.registry import MODELS
from mmvlm.structures import PatchTokenCount, VisionEncoderSpec, VisionFeatures

from .base import Connector


@MODELS.register_module()
class GLUConnector(Connector):
    """Linear, LN, GELU, gated MLP; every view between learned ``boi`` and ``eoi``.

    Paper: Wang et al., "CogVLM: Visual Expert for Pretrained Language Models",
    NeurIPS 2024, arXiv 2311.03079. Deviations: none.

    Args:
        vision_spec (VisionEncoderSpec): filled in by the VLM.
        out_width (int): Dl, filled in by the VLM.
        hidden_width (int | None): of the gated MLP (Dh); None takes 2 * Dl. CogVLM:
            the language model's MLP width.
        select_layers (Sequence[int]): exactly one hidden state.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: not exactly one layer.

    Trainable parameters: Dv*Dl + 2*Dl + 3*Dl*Dh + 2*Dl.

    """

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        hidden_width: int | None = None,
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
                f"GLUConnector: select_layers={list(select_layers)}, expected exactly "
                "one layer."
            )
        hidden = hidden_width or 2 * out_width
        self.linear_proj = nn.Linear(vision_spec.width, out_width, bias=False)
        self.norm1 = nn.LayerNorm(out_width)
        self.dense_h_to_4h = nn.Linear(out_width, hidden, bias=False)
        self.gate_proj = nn.Linear(out_width, hidden, bias=False)
        self.dense_4h_to_h = nn.Linear(hidden, out_width, bias=False)
        self.boi = nn.Parameter(torch.zeros(1, 1, out_width))
        self.eoi = nn.Parameter(torch.zeros(1, 1, out_width))

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
