"""GPT4RoI's region encoder: RoI features of several fused levels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures
from mmvlm.structures.regions import RegionInputs

from .base import RegionEncoder

_SAMPLES = 2


def _resized(feature_map: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize bilinearly with corners on corners, in float32."""
    if tuple(feature_map.shape[-2:]) == tuple(size):
        return feature_map
    large = F.interpolate(
        feature_map.float(), tuple(size), mode="bilinear", align_corners=True
    )
    return large.to(feature_map.dtype)


class LevelFusion(nn.Module):
    """Mix levels of one width by handing channels to neighbours, round by round.

    Args:
        width (int): channels of every level (E).
        num_levels (int): shallow and large first.
        num_rounds (int): each has one convolution, which all levels share.
        num_groups (int): of the group norms.
    """

    def __init__(
        self, width: int, num_levels: int, num_rounds: int, num_groups: int
    ) -> None:
        super().__init__()
        self.input_conv = nn.ModuleList(
            nn.Conv2d(width + 2, width, 1) for _ in range(num_levels)
        )
        self.fuse_convs = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(width, width, 3, padding=1, bias=False),
                    gn=nn.GroupNorm(num_groups, width),
                )
            )
            for _ in range(num_rounds)
        )

    def forward(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Fuse maps.

        Shape:
            - ``levels[l]``: (V, E, h_l, w_l)
            - output: the same
        """
        maps = [
            conv(torch.cat([one, _coordinates(one)], dim=1))
            for conv, one in zip(self.input_conv, levels, strict=True)
        ]
        for layer in self.fuse_convs:
            shuffled = [self._exchanged(maps, number) for number in range(len(maps))]
            maps = [F.relu(layer(one)) for one in shuffled]
        return maps

    @staticmethod
    def _exchanged(maps: Sequence[torch.Tensor], number: int) -> torch.Tensor:
        """Return a level that keeps a half and has a quarter of each neighbour."""
        own = maps[number]
        half, quarter = own.shape[1] // 2, own.shape[1] // 4
        above = maps[min(number + 1, len(maps) - 1)][:, -quarter:]
        below = maps[max(number - 1, 0)][:, half : half + quarter]
        size = own.shape[-2:]
        parts = [own[:, :half], _resized(above, size), _resized(below, size)]
        return torch.cat(parts, dim=1)


def _coordinates(feature_map: torch.Tensor) -> torch.Tensor:
    """Return x and y of every cell, -1 to 1: (V, 2, H, W)."""
    views, _, height, width = feature_map.shape
    like = dict(device=feature_map.device, dtype=feature_map.dtype)
    y = torch.linspace(-1, 1, height, **like)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width, **like).expand(height, width)
    return torch.stack([x, y]).expand(views, 2, height, width)


class BoxHead(nn.Module):
    """RoI features of all levels and the box's place to one token per box.

    Args:
        width (int): channels of the levels (E).
        out_width (int): of the token.
        num_levels (int): of the maps.
        roi_size (int): cells per side that a box is cut into.
        hidden_width (int): between box and token.
        place_width (int): of the first layer that reads the place.
    """

    def __init__(
        self,
        width: int,
        out_width: int,
        *,
        num_levels: int,
        roi_size: int,
        hidden_width: int,
        place_width: int,
    ) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.pconvs = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1) for _ in range(num_levels)
        )
        self.pos_embedd = nn.Sequential(
            nn.Linear(4, place_width),
            nn.ReLU(),
            nn.LayerNorm(place_width),
            nn.Linear(place_width, hidden_width),
            nn.ReLU(),
            nn.LayerNorm(hidden_width),
        )
        self.updims = nn.Linear(hidden_width, out_width)
        self.flatten_linear = nn.Linear(width * roi_size**2, hidden_width)

    def forward(
        self, maps: Sequence[torch.Tensor], boxes: torch.Tensor, views: torch.Tensor
    ) -> torch.Tensor:
        """Encode boxes.

        Shape:
            - ``maps[l]``: (V, E, h_l, w_l)
            - ``boxes``: (R, 4), fractions of the view; ``views``: (R,)
            - output: (R, Dl)
        """
        total = sum(
            conv(self.cut(one, boxes, views))
            for conv, one in zip(self.pconvs, maps, strict=True)
        )
        flat = self.flatten_linear(F.relu(total).flatten(1))
        return self.updims(flat + self.pos_embedd(boxes.to(flat.dtype)))

    def cut(
        self, feature_map: torch.Tensor, boxes: torch.Tensor, views: torch.Tensor
    ) -> torch.Tensor:
        """Return the cells of boxes, (R, E, s, s): mmcv's RoIAlign in float32."""
        from mmcv.ops import roi_align

        height, width = feature_map.shape[-2:]
        sides = boxes.new_tensor([width, height, width, height])
        rois = torch.cat([views[:, None].float(), boxes.float() * sides], dim=1)
        size = (self.roi_size, self.roi_size)
        # The kernel reads memory in order, whatever the strides say.
        dense = feature_map.float().contiguous()
        cells = roi_align(dense, rois, size, 1.0, _SAMPLES, "avg", True)
        return cells.to(feature_map.dtype)


@MODELS.register_module()
class MultiLevelRoI(RegionEncoder):
    """Hidden states as a pyramid, fused, and cut by RoIAlign; one token per region.

    Four layers of the transformer are enlarged to 8, 4, 2 and 1 times its grid, the
    shallow ones most, exchange channels, and every box reads all of them. Sees the box
    around a region only; a mask or a point is the box around it. Only views that have
    regions are fused. Names of the weights are the official ones.

    Paper: Zhang et al., "GPT4RoI: Instruction Tuning Large Language Model on
    Region-of-Interest", 2023, arXiv 2307.03601. Deviations: none.

    Args:
        roi_size (int): cells per side that a box is cut into.
        hidden_width (int): between box and token.
        place_width (int): of the first layer that reads the box's place.
        num_rounds (int): of fusing.
        num_groups (int): of the group norms.
        **kwargs: see :class:`Connector`; ``select_layers`` shallow first.

    Trainable parameters, with E = Dv, L levels, h = hidden_width, p = place_width:
        L*(E*E + 3*E) + rounds*(9*E*E + 2*E) + L*(9*E*E + E)
        + E*roi_size**2*h + h + 7*p + p*h + 3*h + h*Dl + Dl.
    """

    default_layers = (-11, -8, -5, -2)
    #: What ``--tiny`` makes of it.
    tiny_fields = dict(roi_size=4, hidden_width=32, num_groups=4)  # noqa: RUF012

    def __init__(
        self,
        *,
        roi_size: int = 14,
        hidden_width: int = 1024,
        place_width: int = 256,
        num_rounds: int = 5,
        num_groups: int = 64,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("init_cfg", dict(type="Normal", layer="Conv2d", std=0.01))
        super().__init__(**kwargs)
        width, levels = self.vision_spec.width, len(self.select_layers)
        self.mlvl_fuse = LevelFusion(width, levels, num_rounds, num_groups)
        self.roi_align = BoxHead(
            width,
            self.out_width,
            num_levels=levels,
            roi_size=roi_size,
            hidden_width=hidden_width,
            place_width=place_width,
        )

    def forward(self, features: VisionFeatures, regions: RegionInputs) -> torch.Tensor:
        """Encode regions, in their order.

        Shape:
            - ``features.hidden_states[l]``: (V, P + N, Dv), shallow first
            - ``regions``: R regions, R may be 0
            - output: (R, Dl)
        """
        used, views = regions.views.unique(return_inverse=True)
        last = len(self.select_layers) - 1
        levels = []
        for number in range(last + 1):
            one = features.patch_map(number)[used]
            size = [side * 2 ** (last - number) for side in features.grid]
            levels.append(_resized(one, size))
        if not len(regions):
            return levels[0].new_zeros(0, self.out_width)
        return self.roi_align(self.mlvl_fuse(levels), regions.boxes, views)

    @classmethod
    def tiny(cls, vision_spec: Any = None, out_width: int = 48) -> MultiLevelRoI:
        """Build a miniature for tests."""
        sizes = dict(roi_size=3, hidden_width=24, place_width=8, num_groups=4)
        layers = dict(select_layers=(1, 2), num_rounds=2)
        return super().tiny(vision_spec, out_width, **sizes, **layers)
