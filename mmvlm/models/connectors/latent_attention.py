"""Kosmos-2's connector: learned queries look once at all tokens and at themselves."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount, VisionFeatures

from .base import Connector


class _Attention(nn.Module):
    """Attention of queries to a memory; names of the weights are the official ones."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, queries: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Attend: (V, Q, D) to (V, K, D)."""
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj, x in (
                (self.q_proj, queries),
                (self.k_proj, memory),
                (self.v_proj, memory),
            )
        )
        found = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(found.transpose(1, 2).flatten(2))


@MODELS.register_module()
class LatentAttentionConnector(Connector):
    """Learned queries attend to the projected tokens of a view and to each other.

    All tokens, the class token among them, have length one before they are projected.
    Published systems take them behind the tower's last norm
    (``vision_encoder.final_norm=True``).

    Paper: Peng et al., "Kosmos-2: Grounding Multimodal Large Language Models to the
    World", 2023, arXiv 2306.14824. Deviations: none (transformers' code).

    Args:
        num_queries (int): learned queries (Q).
        heads (int): attention heads.
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: not exactly one layer, or heads that do not divide Dl.

    Trainable parameters: with D = Dl, Dv*D + D + Q*D + 4*(D*D + D).
    """

    #: What ``--tiny`` makes of the sizes.
    tiny_fields = dict(num_queries=4, heads=4)  # noqa: RUF012
    default_layers = (-1,)
    one_layer = True

    def __init__(
        self, *, num_queries: int = 64, heads: int = 32, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if self.out_width % heads:
            raise ValueError(
                f"LatentAttentionConnector: heads={heads} do not divide the language "
                f"model's width {self.out_width}."
            )
        self.num_queries = num_queries
        self.dense = nn.Linear(self.vision_spec.width, self.out_width)
        self.latent_query = nn.Parameter(torch.randn(num_queries, self.out_width))
        self.x_attn = _Attention(self.out_width, heads)

    @property
    def token_count(self) -> FixedTokenCount:
        """The queries, per view."""
        return FixedTokenCount(self.num_queries)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Attend to every view.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (V, Q, Dl)
        """
        tokens = self.dense(F.normalize(features.hidden_states[0], dim=-1))
        queries = self.latent_query.expand(len(tokens), -1, -1)
        return self.x_attn(queries, torch.cat([tokens, queries], 1))

    def init_weights(self) -> None:
        """Do nothing: weights are drawn in the constructor."""
        self.is_init = True

    @classmethod
    def tiny(
        cls, vision_spec: Any = None, out_width: int = 48
    ) -> LatentAttentionConnector:
        """Build a miniature of 4 queries."""
        from mmvlm.structures import VisionEncoderSpec

        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec, out_width=out_width, **cls.tiny_fields)
