"""Flamingo's gated cross-attention layers between the blocks of a decoder."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.token_layout import TokenLayout
from mmvlm.models.utils.wrapping import wrap_forward
from mmvlm.registry import MODELS

from .base import LanguageModelAdapter
from .layers import first_of, needed_layout, with_first


class MaskedCrossAttention(nn.Module):
    """Tokens look at those media that a mask allows.

    Args:
        width (int): channels of the tokens.
        media_width (int): channels of the media.
        heads, dim_head (int): attention heads and their channels.
    """

    def __init__(self, width: int, media_width: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * dim_head
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(media_width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(
        self,
        x: torch.Tensor,
        media: torch.Tensor,
        allowed: torch.Tensor,
        uniform: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend; a token that may look at nothing gets 0.

        Shape:
            - ``x``: (T, D); ``media``: (M, n, Dm); ``allowed``: (T, M) bool
            - ``uniform``: (T, M) bool, media over which tokens with nothing
              allowed take the plain mean
            - output: (T, D)
        """
        query = self.to_q(self.norm(x)).unflatten(-1, (self.heads, -1))
        key, value = (
            half.flatten(0, 1).unflatten(-1, (self.heads, -1))
            for half in self.to_kv(media).chunk(2, -1)
        )
        seen = allowed.any(1, keepdim=True)
        mask = (allowed | ~seen).repeat_interleave(media.shape[1], 1)
        query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
        out = scaled_dot_product_attention(query, key, value.to(query.dtype), mask)
        out = out[0].transpose(0, 1).flatten(1) * seen
        if uniform is not None:
            means = value[0].unflatten(1, media.shape[:2]).mean(2)  # (heads, M, d)
            weights = (uniform & ~seen).to(means.dtype)
            weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
            out = out + (weights @ means).transpose(0, 1).flatten(1)
        return self.to_out(out)


class GatedCrossAttentionBlock(nn.Module):
    """Cross-attention and feed-forward behind gates that start closed.

    Args:
        width (int): channels of the tokens (D).
        media_width (int): channels of the media (Dm).
        heads, dim_head (int): attention heads and their channels.
        ff_mult (int): widening of the feed-forward layer.

    Trainable parameters: 2*heads*dim_head*(D + Dm) + 2*ff_mult*D*D + 4*D + 2.
    """

    def __init__(
        self,
        width: int,
        media_width: int,
        heads: int = 8,
        dim_head: int = 64,
        ff_mult: int = 4,
    ) -> None:
        super().__init__()
        from mmvlm.models.connectors.perceiver_resampler import feed_forward

        self.attn = MaskedCrossAttention(width, media_width, heads, dim_head)
        self.attn_gate = nn.Parameter(torch.zeros(1))
        self.ff = feed_forward(width, ff_mult)
        self.ff_gate = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        x: torch.Tensor,
        media: torch.Tensor,
        allowed: torch.Tensor,
        uniform: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Let tokens read media.

        Shape:
            - arguments as in :class:`MaskedCrossAttention`
            - output: (T, D), dtype of ``x``
        """
        read = self.attn(x, media, allowed, uniform)
        x = x + (self.attn_gate.tanh() * read).to(x.dtype)
        return x + (self.ff_gate.tanh() * self.ff(x)).to(x.dtype)


def visible_media(
    layout: TokenLayout, only_immediate: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which media each token may look at, and which its sample has.

    A token counts the media of its sample up to and with itself; it sees the
    last of them, or all. New tokens of a reply see what the prompt's last saw.

    Shape:
        - both: (B * L, M) bool
    """
    owner, device = layout.owner.flatten(), layout.types.device
    media_owner = layout.media_owner
    own = owner[:, None] == media_owner[None]
    if layout.step:
        counts = torch.bincount(media_owner.clamp(min=0), minlength=layout.num_samples)
        last = counts.cumsum(0)[owner] - 1
    else:
        last = layout.is_media.flatten().cumsum(0) - 1
    number = torch.arange(len(media_owner), device=device)[None]
    reached = number == last[:, None] if only_immediate else number <= last[:, None]
    return own & reached, own


@MODELS.register_module()
class GatedCrossAttentionAdapter(LanguageModelAdapter):
    """Cross-attention to images in front of every n-th decoder block (Flamingo).

    Gates start at 0, so the language model starts unchanged. Needs a connector
    that gives media (``PerceiverResamplerConnector``).

    Paper: Alayrac et al., "Flamingo: a Visual Language Model for Few-Shot
    Learning", NeurIPS 2022, arXiv 2204.14198; layers as in OpenFlamingo
    (Awadalla et al., arXiv 2308.01390). Deviations: none.

    Args:
        media_width (int): Dm, filled in by the VLM.
        every (int): n; blocks n - 1, 2n - 1, ... (from 0) get a layer.
        heads, dim_head (int): attention heads and their channels.
        ff_mult (int): widening of the feed-forward layers.
        only_immediate (bool): a token sees the last image before it; False:
            all images before it.
        before_media (str): what tokens before the first image get: ``zero``, or
            ``uniform``, a mean over all images of the sample, as the released
            code has it with ``only_immediate=False`` (they see later images).
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: unknown ``before_media``, or a model of fewer than n blocks.

    Trainable parameters: those of :class:`GatedCrossAttentionBlock` for each of
    floor(blocks / n) layers.
    """

    takes_media = True

    def __init__(
        self,
        *,
        media_width: int,
        every: int = 4,
        heads: int = 8,
        dim_head: int = 64,
        ff_mult: int = 4,
        only_immediate: bool = True,
        before_media: str = "zero",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if before_media not in ("zero", "uniform"):
            raise ValueError(
                f"GatedCrossAttentionAdapter: before_media={before_media!r}, expected "
                "'zero' or 'uniform'."
            )
        self.media_width, self.every = media_width, every
        self.sizes = dict(heads=heads, dim_head=dim_head, ff_mult=ff_mult)
        self.only_immediate, self.before_media = only_immediate, before_media
        self.layers = nn.ModuleDict()

    def attach(self, language_model: LanguageModel) -> None:
        """Put a layer in front of every n-th block."""
        blocks = language_model.blocks
        if not 1 <= self.every <= len(blocks):
            raise ValueError(
                f"GatedCrossAttentionAdapter: every={self.every}, but the language "
                f"model has {len(blocks)} blocks."
            )
        for index in range(self.every - 1, len(blocks), self.every):
            self.layers[str(index)] = GatedCrossAttentionBlock(
                language_model.width, self.media_width, **self.sizes
            )
            wrap_forward(blocks[index], partial(self._before_block, str(index)))

    def _before_block(self, layer: str, inner: Any, *args: Any, **kwargs: Any) -> Any:
        hidden = first_of(args, kwargs)
        layout = needed_layout(hidden, self)
        media = layout.once("media", lambda: self._media(layout, hidden))
        read = self.layers[layer](hidden.flatten(0, -2), *media)
        args, kwargs = with_first(args, kwargs, read.view_as(hidden))
        return inner(*args, **kwargs)

    def _media(self, layout: TokenLayout, hidden: torch.Tensor) -> tuple:
        """Return media, who sees which, and who takes a mean; once per forward."""
        if layout.media is None or not len(layout.media):
            # Nobody sees this one; every layer so stays in the graph.
            nothing = hidden.new_zeros(1, 1, self.media_width)
            return nothing, layout.owner.flatten()[:, None] < 0, None
        allowed, own = visible_media(layout, self.only_immediate)
        uniform = own if self.before_media == "uniform" else None
        return layout.media.to(hidden.dtype), allowed, uniform

    @classmethod
    def tiny(cls) -> GatedCrossAttentionAdapter:
        """Build a layer in front of every block, for media 32 wide."""
        return cls(media_width=32, every=1, heads=2, dim_head=8)
