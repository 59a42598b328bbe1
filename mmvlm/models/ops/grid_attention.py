"""Dense attention over feature maps: all positions, or pooled ones.

B batch, Q queries, S values over all levels, C channels, M heads, L levels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .deform_attn import Shapes


class GridAttention(nn.Module):
    """Multi-head attention of queries over the positions of every level's map.

    Takes the place of :class:`MSDeformAttention` in ablations, same call.

    Paper: with ``pool`` the linear spatial-reduction attention of Wang et al.,
    "PVT v2", CVMJ 2022, arXiv 2106.13797: every map is averaged to a fixed grid,
    then goes through a linear layer, LayerNorm and GELU. Deviations: several maps.

    Args:
        embed_dims (int): C.
        num_heads (int): M, a divisor of C.
        pool (int | None): side of the pooled grid; None attends to every position.

    Raises:
        ValueError: when the heads do not divide the width.

    Trainable parameters: 4*(C*C + C), with ``pool`` C*C + 3*C more.
    """

    def __init__(
        self, embed_dims: int, num_heads: int = 8, *, pool: int | None = None
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f"GridAttention: num_heads={num_heads} does not divide "
                f"embed_dims={embed_dims}."
            )
        self.num_heads = num_heads
        self.pool = pool
        self.query_proj = nn.Linear(embed_dims, embed_dims)
        self.key_proj = nn.Linear(embed_dims, embed_dims)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        if pool is not None:
            self.reduction = nn.Linear(embed_dims, embed_dims)
            self.reduction_norm = nn.LayerNorm(embed_dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every linear layer as the deformable attention does its own."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: torch.Tensor,
        reference_points: torch.Tensor,
        value: torch.Tensor,
        shapes: Shapes,
    ) -> torch.Tensor:
        """Attend; ``reference_points`` are not looked at.

        Shape:
            - ``query``: (B, Q, C)
            - ``value``: (B, S, C), S = sum of H * W over ``shapes``
            - output: (B, Q, C)
        """
        if self.pool is not None:
            value = self._reduce(value, shapes)
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, x in (
                (self.query_proj, query),
                (self.key_proj, value),
                (self.value_proj, value),
            )
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.output_proj(out.transpose(1, 2).flatten(2))

    def _reduce(self, value: torch.Tensor, shapes: Shapes) -> torch.Tensor:
        """Average every map to the fixed grid: (B, S, C) to (B, L * pool^2, C)."""
        pieces = value.transpose(1, 2).split([h * w for h, w in shapes], -1)
        pooled = [
            F.adaptive_avg_pool2d(piece.unflatten(-1, shape), self.pool).flatten(2)
            for piece, shape in zip(pieces, shapes, strict=True)
        ]
        hidden = self.reduction(torch.cat(pooled, -1).transpose(1, 2))
        return F.gelu(self.reduction_norm(hidden))
