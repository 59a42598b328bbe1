"""The mean of a region's features: Ferret's baseline without its sampler."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures
from mmvlm.structures.regions import RegionInputs, RegionNeeds

from .base import RegionEncoder, points_of
from .sampling import COORD_ORDERS, sample_features


@MODELS.register_module()
class MaskMeanPool(RegionEncoder):
    """The mean of the features at pixels of a region, projected; one token.

    Knows what is in a region, of whatever shape, and nothing of how it lies there.

    Paper: the baseline of You et al., "Ferret", ICLR 2024, arXiv 2310.07704.
    Deviations: the linear layer acts on the mean, which is the same.

    Args:
        num_points (int): pixels that are drawn of a region; of a smaller one all.
        coord_order (str): see :class:`FerretSampler`.
        **kwargs: see :class:`Connector`.

    Trainable parameters: Dv*Dl + Dl.
    """

    one_layer = True

    def __init__(
        self, *, num_points: int = 512, coord_order: str = "transposed", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if coord_order not in COORD_ORDERS:
            raise ValueError(
                f"MaskMeanPool: coord_order='{coord_order}', expected {COORD_ORDERS}."
            )
        self.coord_order = coord_order
        self.needs = RegionNeeds(points=num_points)
        self.proj = nn.Linear(self.vision_spec.width, self.out_width)

    def forward(self, features: VisionFeatures, regions: RegionInputs) -> torch.Tensor:
        """Encode regions, in their order.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv)
            - ``regions``: R regions, R may be 0
            - output: (R, Dl)
        """
        patches = features.patches()
        return self.proj(self.pooled(features, regions).to(patches.dtype))

    def pooled(self, features: VisionFeatures, regions: RegionInputs) -> torch.Tensor:
        """Return the mean features of regions: (R, Dv), float32."""
        points = points_of(regions, "MaskMeanPool")
        found = sample_features(
            features.patches(), features.grid, points, regions.views, self.coord_order
        )
        if regions.num_points is None:
            return found.mean(1)
        place = torch.arange(points.shape[1], device=points.device)
        # Points behind the distinct ones repeat them.
        counted = (place < regions.num_points[:, None]).to(found.dtype)
        return torch.einsum("rp,rpc->rc", counted / counted.sum(1, True), found)

    @classmethod
    def tiny(cls, vision_spec: Any = None, out_width: int = 48) -> MaskMeanPool:
        """Build a miniature for tests."""
        return super().tiny(vision_spec, out_width, num_points=16)
