"""Multi-scale deformable attention as a module.

B batch, Q queries, S values over all levels, C channels, M heads, L levels,
K points per level.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from mmvlm.models.utils.observing import SamplingPoints, report
from mmvlm.registry import MODELS

from .deform_attn import BACKENDS, Shapes, deform_attn_sample


@MODELS.register_module()
class MSDeformAttention(nn.Module):
    """Every query samples a few learned points of every level's map.

    Paper: Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End
    Object Detection", ICLR 2021, arXiv 2010.04159. Deviations: none; state keys
    and initialisation are the official ones. Softmax, sampling coordinates and
    sampling are float32 in any dtype.

    Args:
        embed_dims (int): C.
        num_heads (int): M, a divisor of C.
        num_levels (int): L.
        num_points (int): K.
        backend (str | None): of :func:`deform_attn_sample`; None chooses.

    Raises:
        ValueError: when the heads do not divide the width, or an unknown backend.

    Trainable parameters: 2*C*C + 2*C + 3*M*L*K*(C + 1).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        *,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f"MSDeformAttention: num_heads={num_heads} does not divide "
                f"embed_dims={embed_dims}."
            )
        if backend is not None and backend not in BACKENDS:
            raise ValueError(
                f"MSDeformAttention: backend={backend!r}, expected one of "
                f"{list(BACKENDS)} or None."
            )
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        self.backend = backend
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, samples * 2)
        self.attention_weights = nn.Linear(embed_dims, samples)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Point k of head h starts k + 1 cells away, in the head's direction."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.num_heads, dtype=torch.float32)
        angle = angle * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        start = direction[:, None, None] * steps[:, None]
        start = start.expand(-1, self.num_levels, -1, -1)
        self.sampling_offsets.bias.copy_(start.flatten())

    def forward(
        self,
        query: torch.Tensor,
        reference_points: torch.Tensor,
        value: torch.Tensor,
        shapes: Shapes,
        padding_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend.

        Args:
            query (torch.Tensor): what asks, positions already added.
            reference_points (torch.Tensor): centres (x, y) in 0-1, or boxes
                (x, y, w, h); B and L may be 1.
            value (torch.Tensor): maps of all levels, row-major.
            shapes (Shapes): height and width of every level.
            padding_mask (torch.Tensor | None): True where a value is padding.

        Shape:
            - ``query``: (B, Q, C)
            - ``reference_points``: (B or 1, Q, L or 1, 2 or 4)
            - ``value``: (B, S, C)
            - ``padding_mask``: (B, S)
            - output: (B, Q, C)

        Raises:
            ValueError: when ``shapes`` or ``reference_points`` do not fit.
        """
        if len(shapes) != self.num_levels:
            raise ValueError(
                f"MSDeformAttention has {self.num_levels} levels, got {list(shapes)}."
            )
        batch, queries, _ = query.shape
        value = self.value_proj(value)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask[..., None], 0.0)
        value = value.unflatten(-1, (self.num_heads, -1))
        sizes = (self.num_heads, self.num_levels, self.num_points)
        scores = self.attention_weights(query).float()
        weights = scores.unflatten(-1, (self.num_heads, -1)).softmax(-1)
        weights = weights.view(batch, queries, *sizes)
        offsets = self.sampling_offsets(query).float()
        offsets = offsets.view(batch, queries, *sizes, 2)
        locations = self._locations(reference_points, offsets, shapes)
        report(SamplingPoints(self, locations, weights))
        out = deform_attn_sample(value, shapes, locations, weights, self.backend)
        return self.output_proj(out)

    def _locations(
        self, reference_points: torch.Tensor, offsets: torch.Tensor, shapes: Shapes
    ) -> torch.Tensor:
        """Return (B, Q, M, L, K, 2): offsets in cells, or in parts of the box."""
        reference = reference_points.float()[:, :, None, :, None]
        if reference.shape[-1] == 2:
            cells = [[width, height] for height, width in shapes]
            return reference + offsets / offsets.new_tensor(cells)[:, None]
        if reference.shape[-1] == 4:
            parts = offsets / self.num_points * reference[..., 2:] * 0.5
            return reference[..., :2] + parts
        raise ValueError(
            f"MSDeformAttention: reference_points end in {reference.shape[-1]} "
            "numbers, expected 2 (x, y) or 4 (x, y, w, h)."
        )

    def extra_repr(self) -> str:
        """Tell the numbers that the layers do not."""
        return (
            f"num_heads={self.num_heads}, num_levels={self.num_levels}, "
            f"num_points={self.num_points}, backend={self.backend!r}"
        )
