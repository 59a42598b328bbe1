"""MMFuser: a deep layer asks shallow ones for the details it has lost."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from mmvlm.models.ops.grid_attention import GridAttention
from mmvlm.models.ops.ms_deform_attn import MSDeformAttention
from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec, VisionFeatures

from .base import Fuser

#: Side of the grid that ``linear_sra`` averages every map to.
_SRA_POOL = 7


def cell_centres(grid: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Return the centres (x, y) in 0-1 of a grid's cells, row-major.

    Shape:
        - output: (1, H * W, 1, 2), float32
    """
    rows, columns = (
        (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / side
        for side in grid
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)[None, :, None]


@MODELS.register_module()
class MMFuser(Fuser):
    """Cross attention from the last selected layer to the others, then self attention.

        A = cross(LN_q(F_last), LN_f(concat(F_0 ... F_{L-1})))
        S = self(LN_1(A))
        out = F_last + gamma1 * (A + gamma2 * S)

    The gammas start at zero, so that training starts from the last layer alone.

    Paper: Cao et al., "MMFuser: Multimodal Multi-Layer Feature Fuser for
    Fine-Grained Vision-Language Understanding", 2024, arXiv 2410.11829.
    Deviations: none with the defaults; grids need not be square. The other kinds
    of attention are those of the paper's ablation, with module shapes of ours.

    Args:
        num_heads (int): heads of both attentions.
        num_points (int): sampling points per head and level.
        attention (str): ``deformable``, ``global`` (every position of every
            layer) or ``linear_sra`` (every layer averaged to 7 x 7).
        self_attention (bool): refine what the cross attention found.
        gamma_init (float): start of both gammas.
        backend (str | None): of the deformable sampling; None chooses.
        **kwargs: see :class:`Fuser`; of the layers the last one asks, the others are
            looked into.

    Raises:
        ValueError: fewer than two layers, an unknown ``attention`` or
            ``backend``, or heads that do not divide the width.

    Trainable parameters: with L key layers, M heads, K points and width C,
    4*C*C + 4*C + 3*M*(L + 1)*K*(C + 1) + 8*C; 5,190,592 at the paper's sizes.

    Example:
        >>> spec = VisionEncoderSpec(1024, 24, 14, 336, num_prefix_tokens=1)
        >>> sum(p.numel() for p in MMFuser(vision_spec=spec).parameters())
        5190592
    """

    default_layers = (3, 8, 13, 18, 23)
    #: The official projector holds the fuser in front of its linear layers.
    official_keys: ClassVar = {
        "model.mm_projector.0.": "connector.fuser.",
        **{f"model.mm_projector.{2 * i + 1}.": f"connector.{i}." for i in range(8)},
    }
    official_marks = ("model.mm_projector.0.cross_attn.",)
    #: What it holds at least: deformable attention, also to itself.
    official_weights = tuple(
        f"connector.fuser.{name}"
        for name in (
            *("gamma1", "gamma2", "query_norm.weight", "feat_norm.weight"),
            *("norm1.weight", "cross_attn.sampling_offsets.weight"),
            "self_attn.sampling_offsets.weight",
        )
    )

    def __init__(
        self,
        *,
        num_heads: int = 16,
        num_points: int = 4,
        attention: str = "deformable",
        self_attention: bool = True,
        gamma_init: float = 0.0,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(self.select_layers) < 2:
            raise ValueError(
                f"MMFuser: select_layers={list(self.select_layers)}, expected one or "
                "more layers to look into and the query layer behind them."
            )
        width = self.vision_spec.width

        def build(levels: int) -> nn.Module:
            if attention == "deformable":
                return MSDeformAttention(
                    width, num_heads, levels, num_points, backend=backend
                )
            pools = {"global": None, "linear_sra": _SRA_POOL}
            if attention not in pools:
                raise ValueError(
                    f"MMFuser: attention={attention!r}, expected 'deformable', "
                    "'global' or 'linear_sra'."
                )
            return GridAttention(width, num_heads, pool=pools[attention])

        self.query_norm = nn.LayerNorm(width, eps=1e-6)
        self.feat_norm = nn.LayerNorm(width, eps=1e-6)
        self.cross_attn = build(len(self.select_layers) - 1)
        self.gamma1 = nn.Parameter(torch.full((width,), float(gamma_init)))
        self.self_attn = None
        if self_attention:
            self.norm1 = nn.LayerNorm(width, eps=1e-6)
            self.self_attn = build(1)
            self.gamma2 = nn.Parameter(torch.full((width,), float(gamma_init)))

    def forward(self, features: VisionFeatures) -> VisionFeatures:
        """Fuse the selected layers.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv), V may be 0
            - output ``hidden_states[0]``: (V, N, Dv)
        """
        *layers, deep = (features.patches(i) for i in range(len(self.select_layers)))
        grid = features.grid
        centres = cell_centres(grid, deep.device)
        found = self.cross_attn(
            self.query_norm(deep),
            centres,
            self.feat_norm(torch.cat(layers, 1)),
            (grid,) * len(layers),
        )
        refined = found
        if self.self_attn is not None:
            normed = self.norm1(found)
            again = self.self_attn(normed, centres, normed, (grid,))
            refined = found + self.gamma2 * again
        fused = deep + self.gamma1 * refined
        return VisionFeatures((fused,), (0,), grid, 0, features.layouts)

    @classmethod
    def tiny(cls, vision_spec: VisionEncoderSpec | None = None) -> MMFuser:
        """Build one over three layers, with four heads."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(
            vision_spec=spec, select_layers=(1, 2, -1), num_heads=4, num_points=2
        )
