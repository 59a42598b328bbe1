"""A vision transformer with a convolutional stem that learns in minutes on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec

from .blockwise import BlockwiseVisionEncoder


class TinyBlock(nn.Module):
    """A pre-norm transformer block, bidirectional.

    Attention is written out: for the few tokens of tiny models this is faster on
    CPUs than the fused kernels, most of all their backward in bfloat16.

    Args:
        width (int): channels D.
        num_heads (int): divides ``width``.
        mlp_ratio (float): hidden channels of the MLP over ``width``.
    """

    def __init__(self, width: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width={width} is not divisible by {num_heads} heads.")
        hidden = int(width * mlp_ratio)
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None):
        """Mix tokens, then channels.

        Shape:
            - ``x``: (B, N, D)
            - ``mask``: (B, N), True where a token may be looked at; None for all
            - output: (B, N, D)
        """
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        if mask is not None:
            low = torch.finfo(scores.dtype).min
            scores = scores.masked_fill(~mask[:, None, None], low)
        weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))


@MODELS.register_module()
class TinyVisionEncoder(BlockwiseVisionEncoder):
    """Three strided convolutions, then a few transformer blocks.

    The stem (kernel 3, stride 2, batch norm, ReLU) makes patches of 8 x 8 pixels
    that overlap, from which strokes and edges are learnt within a few hundred
    steps; a linear patch embedding needs many more. There is no class token.

    Args:
        width (int): channels of the hidden states (Dv).
        num_layers (int): transformer blocks.
        num_heads (int): attention heads.
        image_size (int): side of a view in pixels, a multiple of 8.
        mlp_ratio (float): hidden channels of the MLPs over ``width``.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: when ``image_size`` is no multiple of 8.

    Example:
        >>> encoder = TinyVisionEncoder.tiny()
        >>> features = encoder(torch.zeros(2, 3, 32, 32), select_layers=[-1])
        >>> features.hidden_states[0].shape
        torch.Size([2, 16, 32])
    """

    PATCH_SIZE = 8

    def __init__(
        self,
        width: int = 128,
        num_layers: int = 3,
        num_heads: int = 4,
        *,
        image_size: int = 48,
        mlp_ratio: float = 4.0,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if image_size % self.PATCH_SIZE or image_size < self.PATCH_SIZE:
            raise ValueError(
                f"TinyVisionEncoder: image_size={image_size}, expected a multiple of "
                f"{self.PATCH_SIZE}."
            )
        self.spec = VisionEncoderSpec(
            width=width,
            num_layers=num_layers,
            patch_size=self.PATCH_SIZE,
            image_size=image_size,
        )
        channels = (3, width // 4, width // 2, width)
        stem: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(channels)):
            stem += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after)]
            if number < 2:
                stem.append(nn.ReLU())
        self.stem = nn.Sequential(*stem)
        side = image_size // self.PATCH_SIZE
        self.position = nn.Parameter(torch.randn(1, side * side, width) * 0.02)
        self._blocks = nn.ModuleList(
            TinyBlock(width, num_heads, mlp_ratio) for _ in range(num_layers)
        )

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Transformer blocks in order."""
        return self._blocks

    @property
    def weight_dtype(self) -> torch.dtype:
        """Dtype of the first convolution."""
        return self.stem[0].weight.dtype

    def embed_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Run the stem and add positions.

        Shape:
            - ``pixel_values``: (V, 3, S, S), S = ``spec.image_size``
            - output: (V, N, Dv), N = (S / 8) ** 2

        Raises:
            ValueError: for views of another size.
        """
        size = self.spec.image_size
        if pixel_values.shape[-2:] != (size, size):
            raise ValueError(
                f"TinyVisionEncoder: views of {tuple(pixel_values.shape[-2:])} pixels, "
                f"expected ({size}, {size}). Set the view transform's size."
            )
        return self.stem(pixel_values).flatten(2).transpose(1, 2) + self.position

    @classmethod
    def tiny(cls) -> TinyVisionEncoder:
        """Build a random miniature: 32 wide, 2 blocks, 32 x 32 pixels."""
        return cls(width=32, num_layers=2, num_heads=2, image_size=32)
