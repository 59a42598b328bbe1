"""LaVIN's connector: the class token of several layers, one token each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount, VisionEncoderSpec, VisionFeatures

from .base import Connector


@MODELS.register_module()
class LayerTokensConnector(Connector):
    """Class tokens of the selected layers through a narrow MLP (LaVIN).

    Paper: Luo et al., "Cheap and Quick: Efficient Vision-Language Instruction
    Tuning for Large Language Models", NeurIPS 2023, arXiv 2305.15023. Deviations:
    none.

    Args:
        hidden (int): channels in the middle (Dh).
        every (int): take every k-th layer, k, 2k, ...; LaVIN: 4.
        select_layers (Sequence[int] | None): these in place of every k-th.
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: for an encoder without class token, or of fewer layers.

    Trainable parameters: Dv*Dh + Dh + Dh*Dl + Dl.
    """

    default_layers = ()  # decided by ``every``

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        hidden: int = 128,
        every: int = 4,
        select_layers: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        layers = select_layers or range(every, vision_spec.num_layers + 1, every)
        if not list(layers) or not vision_spec.num_prefix_tokens:
            raise ValueError(
                f"LayerTokensConnector: every={every} and an encoder of "
                f"{vision_spec.num_layers} layers with {vision_spec.num_prefix_tokens} "
                "class tokens; expected at least one of each."
            )
        super().__init__(vision_spec=vision_spec, select_layers=tuple(layers), **kwargs)
        self.adapter_proj = nn.Sequential(
            nn.Linear(vision_spec.width, hidden),
            nn.SiLU(),
            nn.Linear(hidden, self.out_width),
        )

    @property
    def token_count(self) -> FixedTokenCount:
        """One token per layer and view."""
        return FixedTokenCount(len(self.select_layers))

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Project the class tokens.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv), V may be 0
            - output: (V, number of layers, Dl)
        """
        tokens = torch.stack([state[:, 0] for state in features.hidden_states], 1)
        return self.adapter_proj(tokens)

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> LayerTokensConnector:
        """Take every layer."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec, out_width=out_width, hidden=16, every=1)
