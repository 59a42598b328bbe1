"""Osprey's mask extractor: mask-pooled levels and a token of the mask's place."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount, VisionFeatures
from mmvlm.structures.regions import COVERED, RegionInputs, RegionNeeds

from .base import RegionEncoder, masks_of


@MODELS.register_module()
class MaskExtractor(RegionEncoder):
    """Two tokens per region: what lies under its mask, and the mask's shape and place.

    Every level is averaged under the mask, projected, and summed; the mask itself goes
    through an MLP. Levels are the encoder's maps (stages of a ConvNeXt), where it gives
    any, and else the selected hidden states.

    Paper: Yuan et al., "Osprey: Pixel Understanding with Visual Instruction Tuning",
    CVPR 2024, arXiv 2312.10032. Deviations: a cell belongs to the mask when the mask
    touches it; the official code looks at the four pixels around the cell's middle.

    Args:
        mask_side (int): cells per side of the masks; of the finest level or more.
        place_side (int): cells per side of the mask whose place is encoded.
        hidden_width (int): of levels, and of the MLP.
        **kwargs: see :class:`Connector`.

    Trainable parameters, with h = hidden_width, D_l = width of level l, p = place_side:
        sum(D_l*h + h) + h*Dl + Dl + p*p*h + h + h*h + h + h*Dl + Dl.
    """

    #: What ``--tiny`` makes of it.
    tiny_fields = dict(mask_side=16, place_side=8, hidden_width=32)  # noqa: RUF012

    def __init__(
        self,
        *,
        mask_side: int = 128,
        place_side: int = 112,
        hidden_width: int = 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.needs = RegionNeeds(mask=mask_side)
        self.place_side = place_side
        spec, width = self.vision_spec, hidden_width
        self.levels = tuple(one.name for one in spec.maps)
        widths = [one.width for one in spec.maps]
        widths = widths or [spec.width] * len(self.select_layers)
        self.level_proj = nn.ModuleList(nn.Linear(own, width) for own in widths)
        self.feature_proj = nn.Linear(width, self.out_width)
        self.place_mlp = nn.Sequential(
            nn.Linear(place_side**2, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, self.out_width),
        )

    @property
    def token_count(self) -> FixedTokenCount:
        """Two positions per region."""
        return FixedTokenCount(2)

    def forward(self, features: VisionFeatures, regions: RegionInputs) -> torch.Tensor:
        """Encode regions, in their order.

        Shape:
            - ``features.maps[l]``: (V, D_l, h_l, w_l); or hidden states
            - ``regions``: R regions, R may be 0
            - output: (2 * R, Dl): features, place, features, place, ...
        """
        masks = masks_of(regions, "MaskExtractor", self.needs.mask)[:, None].float()
        maps = [features.maps[name] for name in self.levels]
        maps = maps or [features.patch_map(n) for n in range(len(self.level_proj))]
        total = 0
        for layer, one in zip(self.level_proj, maps, strict=True):
            inside = (F.adaptive_max_pool2d(masks, one.shape[-2:])[:, 0] > 0).float()
            share = inside / inside.sum((1, 2), keepdim=True)
            pooled = torch.einsum("rhw,rchw->rc", share, one[regions.views].float())
            total = total + layer(pooled.to(one.dtype))
        size = (self.place_side,) * 2
        place = F.interpolate(masks / COVERED, size, mode="bilinear")
        place = self.place_mlp(place.flatten(1).to(total.dtype))
        return torch.stack([self.feature_proj(total), place], dim=1).flatten(0, 1)

    @classmethod
    def tiny(cls, vision_spec: Any = None, out_width: int = 48) -> MaskExtractor:
        """Build a miniature for tests."""
        sizes = dict(mask_side=8, place_side=6, hidden_width=24)
        return super().tiny(vision_spec, out_width, **sizes)
