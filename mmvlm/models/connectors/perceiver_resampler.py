"""Flamingo's perceiver resampler: media for cross-attention in the language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mmvlm.registry import MODELS
from mmvlm.structures import ViewLayout, VisionEncoderSpec, VisionFeatures

from .base import Connector


def feed_forward(width: int, mult: int = 4) -> nn.Sequential:
    """Return LN, Linear, GELU, Linear without biases, as Flamingo has it."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, width * mult, bias=False),
        nn.GELU(),
        nn.Linear(width * mult, width, bias=False),
    )


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Return (..., N, M * d) as (..., M, N, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


class PerceiverAttention(nn.Module):
    """Latents look at media and at themselves.

    Args:
        width (int): channels.
        heads, dim_head (int): attention heads and their channels.
    """

    def __init__(self, width: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * dim_head
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, media: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Attend.

        Shape:
            - ``media``: (M, v, D); ``latents``: (M, n, D)
            - output: (M, n, D)
        """
        latents = self.norm_latents(latents)
        keys = torch.cat([self.norm_media(media), latents], 1)
        query, key, value = (
            split_heads(x, self.heads)
            for x in (self.to_q(latents), *self.to_kv(keys).chunk(2, -1))
        )
        out = scaled_dot_product_attention(query, key, value)
        return self.to_out(out.transpose(1, 2).flatten(2))


class PerceiverResampler(nn.Module):
    """A fixed number of latents reads any number of tokens.

    Args:
        width (int): channels of tokens and latents.
        depth (int): layers.
        heads, dim_head (int): attention heads and their channels.
        num_latents (int): n.
        ff_mult (int): widening of the feed-forward layers.
        max_frames (int | None): learned embeddings of that many frames.
        max_media (int | None): learned embeddings of that many places in a text.

    Trainable parameters: n*D + depth*(4*D*heads*dim_head + 2*ff_mult*D*D + 6*D)
    + 2*D, and D for every frame and place.
    """

    def __init__(
        self,
        width: int,
        *,
        depth: int = 6,
        heads: int = 8,
        dim_head: int = 64,
        num_latents: int = 64,
        ff_mult: int = 4,
        max_frames: int | None = None,
        max_media: int | None = None,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(num_latents, width))
        self.frame_embs = _table(max_frames, width)
        self.media_time_embs = _table(max_media, 1, width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(width, heads, dim_head),
                    feed_forward(width, ff_mult),
                ]
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: torch.Tensor, place: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Resample.

        Args:
            x (torch.Tensor): tokens of every frame of every medium.
            place (torch.Tensor | None): which medium of its text each is, for
                models with ``max_media``.

        Shape:
            - ``x``: (M, F, v, D); ``place``: (M,), int64
            - output: (M, n, D)

        Raises:
            ValueError: more frames than ``max_frames``.
        """
        if self.frame_embs is not None:
            if x.shape[1] > len(self.frame_embs):
                raise ValueError(
                    f"{x.shape[1]} frames, but max_frames={len(self.frame_embs)}."
                )
            x = x + self.frame_embs[: x.shape[1], None]
        x = x.flatten(1, 2)
        if self.media_time_embs is not None and place is not None:
            x = x + self.media_time_embs[place]
        latents = self.latents.to(x.dtype).expand(len(x), -1, -1)
        for attention, feed in self.layers:
            latents = latents + attention(x, latents)
            latents = latents + feed(latents)
        return self.norm(latents)


def _table(rows: int | None, *shape: int) -> nn.Parameter | None:
    return None if rows is None else nn.Parameter(torch.randn(rows, *shape))


class OnePerImage:
    """One position in the text per image, whatever its layout."""

    def __call__(self, layout: ViewLayout) -> int:
        """Return 1."""
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OnePerImage)

    def __hash__(self) -> int:
        return hash(OnePerImage)


@MODELS.register_module()
class PerceiverResamplerConnector(Connector):
    """A fixed number of media tokens per image, for cross-attention (Flamingo).

    An image takes one position of the text, where the learned embedding of the
    ``<image>`` token stands (``slot_embed``); its media tokens go to the language
    model's ``GatedCrossAttentionAdapter``. Views of one image are its frames.

    Paper: Alayrac et al., "Flamingo: a Visual Language Model for Few-Shot
    Learning", NeurIPS 2022, arXiv 2204.14198. Deviations: none from OpenFlamingo,
    which keeps the ``<image>`` embedding in the language model's table.

    Args:
        depth (int): layers.
        heads, dim_head (int): attention heads and their channels.
        num_latents (int): media tokens per image (n).
        max_frames (int | None): None for images of one view; else the most
            views that an image may have, each with a learned embedding.
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: not exactly one layer.

    Trainable parameters: those of :class:`PerceiverResampler`, and Dl.
    """

    default_layers = (-1,)
    one_layer = True

    def __init__(
        self,
        *,
        depth: int = 6,
        heads: int = 8,
        dim_head: int = 64,
        num_latents: int = 64,
        max_frames: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_frames = max_frames
        self.memory_width = self.vision_spec.width
        self.resampler = PerceiverResampler(
            self.vision_spec.width,
            depth=depth,
            heads=heads,
            dim_head=dim_head,
            num_latents=num_latents,
            max_frames=max_frames,
        )
        self.slot_embed = nn.Parameter(torch.randn(1, self.out_width) * 0.02)

    @property
    def token_count(self) -> OnePerImage:
        """One position per image."""
        return OnePerImage()

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Resample every image.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (M, n, Dv), M images

        Raises:
            ValueError: for an image of several views without ``max_frames``.
        """
        patches = features.patches(0)
        frames = [layout.num_views for layout in features.layouts]
        frames = frames or [1] * len(patches)
        if max(frames, default=1) > (self.max_frames or 1):
            raise ValueError(
                f"PerceiverResamplerConnector: an image of {max(frames)} views, but "
                f"max_frames={self.max_frames}."
            )
        if len(set(frames)) <= 1:
            return self.resampler(patches.unflatten(0, (-1, (frames or [1])[0])))
        images = patches.split(frames)
        return torch.cat([self.resampler(image[None]) for image in images])

    def merge_views(
        self, image_embeds: torch.Tensor, layouts: Sequence[ViewLayout]
    ) -> torch.Tensor:
        """Return what stands in the text for every image.

        Shape:
            - ``image_embeds``: (M, n, Dv)
            - output: (M, Dl)
        """
        row = self.slot_embed.to(image_embeds.dtype)
        return row.expand(len(image_embeds), -1)

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> PerceiverResamplerConnector:
        """Build two layers with five latents."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(
            vision_spec=spec,
            out_width=out_width,
            depth=2,
            heads=2,
            dim_head=8,
            num_latents=5,
        )
