"""Emu's C-Former: a T5 decoder that writes an image as a causal sequence."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount, VisionEncoderSpec, VisionFeatures

from .base import Connector

_BUCKETS, _FARTHEST = 32, 128


class _RMSNorm(nn.Module):
    """T5's norm: no mean, no bias, in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the last axis."""
        scale = x.float().pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt()
        return self.weight * (x.float() * scale).to(self.weight.dtype)


def _causal_buckets(length: int, device: torch.device) -> torch.Tensor:
    """Bucket of every (query, key) distance: exact up to 15, then logarithmic."""
    place = torch.arange(length, device=device)
    distance = (place[:, None] - place[None]).clamp(min=0)
    exact = _BUCKETS // 2
    ratio = (distance.clamp(min=1).float() / exact).log() / math.log(_FARTHEST / exact)
    far = (exact + (ratio * (_BUCKETS - exact)).long()).clamp(max=_BUCKETS - 1)
    return torch.where(distance < exact, distance, far)


class _T5Attention(nn.Module):
    """T5's attention: no biases, no scaling of the scores."""

    def __init__(
        self, width: int, memory_width: int, heads: int, head_width: int, biased: bool
    ) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.q = nn.Linear(width, inner, bias=False)
        self.k = nn.Linear(memory_width, inner, bias=False)
        self.v = nn.Linear(memory_width, inner, bias=False)
        self.o = nn.Linear(inner, width, bias=False)
        nn.init.normal_(self.q.weight, std=(width * head_width) ** -0.5)
        nn.init.normal_(self.k.weight, std=memory_width**-0.5)
        nn.init.normal_(self.v.weight, std=memory_width**-0.5)
        nn.init.normal_(self.o.weight, std=inner**-0.5)
        if biased:
            self.relative_attention_bias = nn.Embedding(_BUCKETS, heads)
            nn.init.normal_(self.relative_attention_bias.weight, std=width**-0.5)

    def position_bias(self, length: int) -> torch.Tensor:
        """Return the bias of a causal sequence: (1, heads, length, length)."""
        table = self.relative_attention_bias
        bias = table(_causal_buckets(length, table.weight.device)).permute(2, 0, 1)
        future = torch.ones(length, length, device=bias.device, dtype=torch.bool)
        low = torch.finfo(bias.dtype).min
        return bias.masked_fill(future.triu(1), low)[None]

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend: (V, Q, D) and (V, M, Dm) to (V, Q, D)."""
        query, key, value = (
            project(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project, source in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        scores = query @ key.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias
        weights = scores.float().softmax(-1).to(value.dtype)
        return self.o((weights @ value).transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.wi = nn.Linear(width, hidden, bias=False)
        self.wo = nn.Linear(hidden, width, bias=False)
        nn.init.normal_(self.wi.weight, std=width**-0.5)
        nn.init.normal_(self.wo.weight, std=hidden**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix channels: (V, Q, D) to the same."""
        return self.wo(self.wi(x).relu())


class _SubLayer(nn.Module):
    """A module of T5 under its official name, with its norm."""

    def __init__(self, name: str, module: nn.Module, width: int) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, module)
        self.layer_norm = _RMSNorm(width)

    def forward(self, x: torch.Tensor, *memory: torch.Tensor) -> torch.Tensor:
        """Return what is added to the residual: (V, Q, D)."""
        return getattr(self, self.name)(self.layer_norm(x), *memory)


class _Block(nn.Module):
    def __init__(
        self,
        width: int,
        vision_width: int,
        heads: int,
        head_width: int,
        hidden: int,
        biased: bool,
    ) -> None:
        super().__init__()
        own = _T5Attention(width, width, heads, head_width, biased)
        cross = _T5Attention(width, vision_width, heads, head_width, False)
        self.layer = nn.ModuleList(
            [
                _SubLayer("SelfAttention", own, width),
                _SubLayer("EncDecAttention", cross, width),
                _SubLayer("DenseReluDense", _FeedForward(width, hidden), width),
            ]
        )

    def forward(
        self, x: torch.Tensor, image: torch.Tensor, bias: torch.Tensor, drop: nn.Dropout
    ) -> torch.Tensor:
        """One block: (V, Q, D)."""
        own, cross, feed = self.layer
        normed = own.layer_norm(x)
        x = x + drop(own.SelfAttention(normed, normed, bias))
        x = x + drop(cross(x, image))
        return x + drop(feed(x))


class _Decoder(nn.Module):
    def __init__(self, num_layers: int, width: int, *sizes: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            _Block(width, *sizes, biased=number == 0) for number in range(num_layers)
        )
        self.final_layer_norm = _RMSNorm(width)


@MODELS.register_module()
class CausalFormerConnector(Connector):
    """Learned queries become, one after the other, a causal sequence of the image.

    A T5 decoder: query i sees queries 0..i and, by cross attention, all image
    tokens. So the language model may also learn to predict an image's embeddings
    from left to right (:class:`VisualRegressionHead`). Names of the weights are the
    official ones; the official word table, which nothing reads, is left out.

    Paper: Sun et al., "Emu: Generative Pretraining in Multimodality", ICLR 2024,
    arXiv 2307.05222. Deviations: none (released code).

    Args:
        num_queries (int): tokens per view (Q).
        width (int): channels of the decoder (D).
        num_layers (int): blocks (L).
        num_heads (int): attention heads (M).
        head_width (int): channels per head (K).
        intermediate_size (int): hidden channels of the feed-forwards (F).
        dropout (float): on every residual branch, input and output, in training.
        vision_norm (bool): LayerNorm on the image tokens first (``ln_visual``).
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: not exactly one layer.

    Trainable parameters: L*(6*D*M*K + 2*Dv*M*K + 2*D*F + 3*D) + 32*M + D + Q*D
        + D*Dl + Dl, and 2*Dv for ``vision_norm``.
    """

    #: What ``--tiny`` makes of the sizes.
    tiny_fields = dict(  # noqa: RUF012
        width=32, num_layers=2, num_heads=4, head_width=8, intermediate_size=48
    )
    default_layers = (-1,)
    one_layer = True

    def __init__(
        self,
        *,
        num_queries: int = 32,
        width: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        head_width: int = 64,
        intermediate_size: int = 3072,
        dropout: float = 0.1,
        vision_norm: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_queries = num_queries
        dv = self.vision_spec.width
        self.ln_visual = nn.LayerNorm(dv, eps=1e-6) if vision_norm else nn.Identity()
        self.causal_tokens = nn.Parameter(torch.randn(1, num_queries, width) * 0.02)
        self.cformer = _Decoder(
            num_layers, width, dv, num_heads, head_width, intermediate_size
        )
        self.projection = nn.Linear(width, self.out_width)
        self.drop = nn.Dropout(dropout)

    @property
    def token_count(self) -> FixedTokenCount:
        """As many tokens per view as queries."""
        return FixedTokenCount(self.num_queries)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Write every view as a sequence.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (V, Q, Dl); row i depends on queries 0..i
        """
        image = self.ln_visual(features.hidden_states[0])
        x = self.drop(self.causal_tokens.expand(len(image), -1, -1))
        first = self.cformer.block[0].layer[0].SelfAttention
        bias = first.position_bias(self.num_queries)
        for block in self.cformer.block:
            x = block(x, image, bias, self.drop)
        return self.projection(self.drop(self.cformer.final_layer_norm(x)))

    def init_weights(self) -> None:
        """Do nothing: weights are drawn in the constructor, as T5's are."""
        self.is_init = True

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> CausalFormerConnector:
        """Build a miniature of 2 blocks and 6 queries."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(
            vision_spec=spec, out_width=out_width, num_queries=6, **cls.tiny_fields
        )
