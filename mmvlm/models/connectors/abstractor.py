"""mPLUG-Owl's visual abstractor: queries that see themselves and the image."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention, silu

from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount, VisionEncoderSpec, VisionFeatures

from .base import Connector


class _Attention(nn.Module):
    """Queries attend to keys and values of another sequence, without projection."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, queries: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Attend: (V, Q, D) and (V, M, D) to (V, Q, D)."""
        heads = [
            project(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project, x in (
                (self.query, queries),
                (self.key, memory),
                (self.value, memory),
            )
        ]
        return scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


class _GatedMLP(nn.Module):
    """SwiGLU with a norm on the gated channels."""

    def __init__(self, width: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden)
        self.w2 = nn.Linear(hidden, width)
        self.w3 = nn.Linear(width, hidden)
        self.ffn_ln = nn.LayerNorm(hidden, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix channels: (V, Q, D) to the same."""
        return self.w2(self.ffn_ln(silu(self.w1(x)) * self.w3(x)))


class _Output(nn.Module):
    def __init__(self, width: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.out_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _GatedMLP(width, hidden, eps)

    def forward(self, normed: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Add attention and MLP to the normed queries: (V, Q, D)."""
        out = normed + self.out_proj(mixed)
        return out + self.mlp(self.norm2(out))


class _CrossAttention(nn.Module):
    def __init__(self, width: int, num_heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.attention = _Attention(width, num_heads)
        self.output = _Output(width, hidden, eps)
        self.norm1 = nn.LayerNorm(width)
        self.normk = nn.LayerNorm(width)

    def forward(self, queries: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """One layer; the residual is the normed query: (V, Q, D)."""
        normed = self.norm1(queries)
        memory = torch.cat([normed, self.normk(image)], 1)
        return self.output(normed, self.attention(normed, memory))


class _Layer(nn.Module):
    def __init__(self, *sizes: float) -> None:
        super().__init__()
        self.crossattention = _CrossAttention(*sizes)


@MODELS.register_module()
class AbstractorConnector(Connector):
    """Learned queries abstract the image; a learned token says where it ends.

    In every layer the normed queries attend to themselves and to the normed
    image tokens together, and the residual starts from the normed query. Names of
    the weights are the official ones below ``abstractor.``, but for
    ``query_tokens``, which stands beside it there.

    Paper: Ye et al., "mPLUG-Owl: Modularization Empowers Large Language Models with
    Multimodality", 2023, arXiv 2304.14178. Deviations: none (released code).

    Args:
        num_queries (int): learned queries (Q); a view gives one token more.
        num_layers (int): layers (L).
        num_heads (int): attention heads.
        intermediate_size (int): hidden channels of the MLPs (F).
        norm_eps (float): of the norm inside the MLPs.
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: not exactly one layer, or heads that do not divide Dv.

    Trainable parameters: with D = Dv,
        L*(4*D*D + 3*D*F + 11*D + 4*F) + Q*D + D*Dl + 2*Dl.
    """

    #: What ``--tiny`` makes of the sizes.
    tiny_fields = dict(num_layers=2, num_heads=4, intermediate_size=48)  # noqa: RUF012
    default_layers = (-1,)

    def __init__(
        self,
        *,
        num_queries: int = 64,
        num_layers: int = 6,
        num_heads: int = 16,
        intermediate_size: int = 4096,
        norm_eps: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        width = self.vision_spec.width
        if len(self.select_layers) != 1 or width % num_heads:
            raise ValueError(
                f"AbstractorConnector: select_layers={list(self.select_layers)}, "
                f"num_heads={num_heads}; expected exactly one layer, and heads that "
                f"divide the encoder's width {width}."
            )
        self.num_queries = num_queries
        self.query_tokens = nn.Parameter(torch.randn(1, num_queries, width) * 0.02)
        self.encoder = nn.ModuleDict(
            dict(
                layers=nn.ModuleList(
                    _Layer(width, num_heads, intermediate_size, norm_eps)
                    for _ in range(num_layers)
                )
            )
        )
        self.visual_fc = nn.Linear(width, self.out_width)
        self.vit_eos = nn.Parameter(torch.randn(1, 1, self.out_width) * 0.02)

    @property
    def token_count(self) -> FixedTokenCount:
        """The queries and the end token, per view."""
        return FixedTokenCount(self.num_queries + 1)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Abstract every view.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (V, Q + 1, Dl)
        """
        image = features.hidden_states[0]
        queries = self.query_tokens.expand(len(image), -1, -1)
        for layer in self.encoder["layers"]:
            queries = layer.crossattention(queries, image)
        end = self.vit_eos.expand(len(image), -1, -1)
        return torch.cat([self.visual_fc(queries), end], 1)

    def init_weights(self) -> None:
        """Do nothing: weights are drawn in the constructor."""
        self.is_init = True

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> AbstractorConnector:
        """Build a miniature of 2 layers and 4 queries."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(
            vision_spec=spec, out_width=out_width, num_queries=4, **cls.tiny_fields
        )
