"""Qwen-VL's resampler: a grid of learned queries looks once at the patches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mmvlm.models.utils.positions import packed_positions, resize_grid, sincos_grid
from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount, VisionEncoderSpec, VisionFeatures

from .base import Connector

_POST = (None, "matrix", "linear")


@MODELS.register_module()
class ResamplerConnector(Connector):
    """One cross-attention from queries on a grid to patches on another.

    Both grids carry fixed 2-D sine-cosine positions; those of the keys are
    interpolated to whatever grid of patches comes, square or not, also another for
    every view of a batch. There is no
    residual and no feed-forward. The number of tokens is that of the queries, so
    the resolution of the image costs the language model nothing.

    The same module serves Qwen-VL, Monkey and LLaVA-UHD (``grid=8``). With
    ``kv_bias=True, post_proj='linear'`` it is DeepSpeed-VisualChat's variant, which no
    config uses.

    Paper: Bai et al., "Qwen-VL: A Versatile Vision-Language Model for
    Understanding, Localization, Text Reading, and Beyond", 2023, arXiv
    2308.12966. Deviations: none; ``pos_embed`` is a buffer, as it is not trained.

    Args:
        grid (int): queries per side.
        dim (int | None): width of the attention (E); None takes ``out_width``.
        heads (int | None): None takes E / 128, at least 1.
        kv_bias (bool): bias of ``kv_proj``.
        ln_eps (float): of the norms of queries, keys and outputs.
        drop_cls (bool): leave the prefix tokens out; kept, they have no position.
        post_proj (str | None): ``matrix``: norm, then a matrix without bias
            (Qwen-VL); ``linear``: norm, then a linear layer; None: nothing.
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: unknown ``post_proj``, widths that do not fit, or not exactly
            one layer.

    Trainable parameters: grid^2*E + Dv*E [kv_proj, unless Dv = E; + E with bias] +
    4*E^2 + 4*E [attention] + 4*E [norms]; 2*E + E*Dl [+ Dl] with ``post_proj``.

    Example:
        >>> spec = VisionEncoderSpec(1664, 48, 14, 448)
        >>> with torch.device("meta"):
        ...     qwen = ResamplerConnector(vision_spec=spec, out_width=4096, grid=16)
        >>> sum(p.numel() for p in qwen.parameters())
        75005952
    """

    takes_grids = True
    default_layers = (-1,)
    one_layer = True

    def __init__(
        self,
        *,
        grid: int = 16,
        dim: int | None = None,
        heads: int | None = None,
        kv_bias: bool = False,
        ln_eps: float = 1e-6,
        drop_cls: bool = True,
        post_proj: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        dim = dim or self.out_width
        if post_proj not in _POST:
            raise ValueError(
                f"ResamplerConnector: post_proj={post_proj!r}, expected one of {_POST}."
            )
        if post_proj is None and dim != self.out_width:
            raise ValueError(
                f"ResamplerConnector: dim={dim}, but the language model is "
                f"{self.out_width} wide; set post_proj='linear' or leave dim out."
            )
        self.grid, self.drop_cls, self.post_proj = (grid, grid), drop_cls, post_proj
        self.query = nn.Parameter(torch.empty(grid * grid, dim))
        self.register_buffer("pos_embed", sincos_grid(dim, self.grid))
        width = self.vision_spec.width
        self.kv_proj = (
            nn.Identity() if width == dim else nn.Linear(width, dim, bias=kv_bias)
        )
        self.attn = nn.MultiheadAttention(
            dim, heads or max(1, dim // 128), batch_first=True
        )
        self.ln_q = nn.LayerNorm(dim, ln_eps)
        self.ln_kv = nn.LayerNorm(dim, ln_eps)
        if post_proj is not None:
            self.ln_post = nn.LayerNorm(dim, ln_eps)
        if post_proj == "matrix":
            self.proj = nn.Parameter(torch.randn(dim, self.out_width) / dim**0.5)
        elif post_proj == "linear":
            self.proj = nn.Linear(dim, self.out_width)
        self._draw()

    def _draw(self) -> None:
        """Draw the weights; the packed projection of the attention keeps torch's."""
        nn.init.trunc_normal_(self.query, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def token_count(self) -> FixedTokenCount:
        """As many as queries, for every view."""
        return FixedTokenCount(self.grid[0] * self.grid[1])

    def _keys(
        self, features: VisionFeatures
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return the tokens to look at, their positions, and which are none."""
        states = features.patches(0) if self.drop_cls else features.hidden_states[0]
        prefix = 0 if self.drop_cls else features.num_prefix_tokens
        if features.grids:
            place, absent = packed_positions(
                self.pos_embed, self.grid, features.grids, states.shape[1] - prefix
            )
            absent = functional.pad(absent, (prefix, 0))
        else:
            place = resize_grid(self.pos_embed, self.grid, tuple(features.grid))
            absent = None
        return states, functional.pad(place, (0, 0, prefix, 0)), absent

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Let the queries gather what they want from every view.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (V, grid * grid, Dl)
        """
        states, place, absent = self._keys(features)
        if not len(states):
            return states.new_zeros(0, len(self.query), self.out_width)
        values = self.ln_kv(self.kv_proj(states))
        query = self.ln_q(self.query) + self.pos_embed
        out, _ = self.attn(
            query.expand(len(values), -1, -1),
            values + place,
            values,
            key_padding_mask=absent,
            need_weights=False,
        )
        if self.post_proj is None:
            return out
        out = self.ln_post(out)
        return self.proj(out) if self.post_proj == "linear" else out @ self.proj

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> ResamplerConnector:
        """Build nine queries with four heads."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(
            vision_spec=spec,
            out_width=out_width,
            grid=3,
            heads=4,
            post_proj="matrix",
        )
