"""Ferret's spatial-aware visual sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures
from mmvlm.structures.regions import RegionInputs, RegionNeeds

from .base import RegionEncoder, points_of
from .sampling import COORD_ORDERS, farthest_points, nearest_points, sample_features

_POOLERS = ("max", "mean")
#: Numbers of pairs (anchors x neighbours x channels) that are made at once: they stay
#: in the cache.
_MAX_NUMBERS = 2**18


@MODELS.register_module()
class FerretSampler(RegionEncoder):
    """Points of a region, thinned out stage by stage; one token per region.

    Features are read off the map at points of the region. A stage keeps points that
    lie far from each other and gives each the pooled features of its nearest
    neighbours, which come from both points and their difference; what the last stage
    leaves is flattened and projected. So the token knows of shape and place, and holes
    and strokes count for nothing more than their pixels.

    A pair's features are linear in both points up to the ReLU: the layers run once per
    point, and a pair costs one addition. Distances are float32 in any precision.

    Paper: You et al., "Ferret: Refer and Ground Anything Anywhere at Any Granularity",
    ICLR 2024, arXiv 2310.07704. Deviations: points and starts are drawn by
    :class:`PrepareRegions`; bfloat16 keeps distances in float32, where the official
    training rounds them.

    Args:
        num_points (int): pixels that are drawn of a region.
        num_sub_points (Sequence[int]): points that each stage leaves.
        num_neighbours (Sequence[int]): points that each of them hears of.
        pooler (str): over neighbours, ``max`` or ``mean``.
        coord_order (str): ``transposed`` reads features at the mirrored place, as the
            official code does: what released weights need. ``xy``: at the place.
        **kwargs: see :class:`Connector`.

    Trainable parameters, D = Dv + 2: stages * (D*D + D + 2*D*Dv + 3*Dv)
    + (last points)*Dv*Dv + Dv + Dv*Dl + Dl.

    Raises:
        ValueError: for stages of different numbers, or that want more points than the
            one before leaves.
    """

    one_layer = True
    #: What ``--tiny`` makes of it.
    tiny_fields = dict(  # noqa: RUF012
        num_points=32, num_sub_points=(8, 4), num_neighbours=(4, 4)
    )

    def __init__(
        self,
        *,
        num_points: int = 512,
        num_sub_points: Sequence[int] = (128, 32),
        num_neighbours: Sequence[int] = (24, 24),
        pooler: str = "max",
        coord_order: str = "transposed",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if pooler not in _POOLERS or coord_order not in COORD_ORDERS:
            raise ValueError(
                f"FerretSampler: pooler='{pooler}', coord_order='{coord_order}'; "
                f"expected {_POOLERS} and {COORD_ORDERS}."
            )
        counts = (num_points, *num_sub_points)
        most = [max(pair) for pair in zip(num_sub_points, num_neighbours, strict=False)]
        if len(num_sub_points) != len(num_neighbours) or any(
            own > before for own, before in zip(most, counts, strict=False)
        ):
            raise ValueError(
                f"FerretSampler: num_sub_points={list(num_sub_points)}, "
                f"num_neighbours={list(num_neighbours)}: as many of both, none larger "
                f"than the points before (num_points={num_points})."
            )
        self.num_sub_points = tuple(num_sub_points)
        self.num_neighbours = tuple(num_neighbours)
        self.pooler, self.coord_order = pooler, coord_order
        self.needs = RegionNeeds(num_points, len(self.num_sub_points))
        width, wide = self.vision_spec.width, self.vision_spec.width + 2
        self.difference = nn.ModuleList(nn.Linear(wide, wide) for _ in most)
        self.pair = nn.ModuleList(nn.Linear(2 * wide, width) for _ in most)
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in most)
        self.flatten_proj = nn.Linear(counts[-1] * width, width)
        self.out_proj = nn.Linear(width, self.out_width)

    def forward(self, features: VisionFeatures, regions: RegionInputs) -> torch.Tensor:
        """Encode regions, in their order.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv)
            - ``regions``: R regions, R may be 0
            - output: (R, Dl)

        Raises:
            ValueError: without points or starts.
        """
        points = points_of(regions, "FerretSampler").float()
        draws = regions.draws
        if draws is None:
            raise ValueError("FerretSampler reads draws of regions; see its `needs`.")
        chosen = self.choose(points, draws)
        pooled = self.pool(features, points, regions.views, chosen)
        return self.out_proj(self.flatten_proj(pooled.flatten(1)))

    def choose(
        self, points: torch.Tensor, draws: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Choose every stage's anchors, and of each its neighbours, by places alone.

        Shape:
            - ``points``: (R, P, 2), float32; ``draws``: (R, S)
            - output, per stage: indices (R, A) and (R, A, K) of the stage's points
        """
        chosen = []
        for stage, count in enumerate(self.num_sub_points):
            size = points.shape[1]
            starts = (draws[:, stage].float() * size).long().clamp(max=size - 1)
            anchors = farthest_points(points, count, starts)
            places = _at(points, anchors)
            near = nearest_points(places, points, self.num_neighbours[stage])
            chosen.append((anchors, near))
            points = places
        return chosen

    def pool(
        self,
        features: VisionFeatures,
        points: torch.Tensor,
        views: torch.Tensor,
        chosen: Sequence[tuple[torch.Tensor, torch.Tensor]],
    ) -> torch.Tensor:
        """Return the features of the points that the last stage leaves.

        Args:
            features (VisionFeatures): of the images.
            points (torch.Tensor): of the regions.
            views (torch.Tensor): image of each region.
            chosen (Sequence[tuple]): anchors and neighbours; see :meth:`choose`.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv)
            - ``points``: (R, P, 2), float32; ``views``: (R,)
            - output: (R, A, Dv), A anchors of the last stage
        """
        # Regions of one image share what a layer makes of its patches.
        used, views = views.unique(return_inverse=True)
        patches = features.patches()[used]

        def read(layers: Callable, places: torch.Tensor, _: Any) -> torch.Tensor:
            found = sample_features(
                layers(patches), features.grid, places, views, self.coord_order
            )
            return found.to(patches.dtype)

        for stage, (anchors, near) in enumerate(chosen):
            moved, fixed = self._per_point(stage, read, points, anchors)
            pooled = self._pooled(stage, moved, fixed, near)
            points, read = _at(points, anchors), partial(_read_at, pooled)
        return pooled

    def _per_point(
        self, stage: int, read: Callable, points: torch.Tensor, chosen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what every point, and what every anchor, brings to its pairs.

        With both layers written out, a pair (j, anchor i) is
        ``ReLU(A D x_j + [B x_i - A D x_i + c])``: D is the layer of differences, A and
        B are the halves of the pair's.

        Args:
            stage (int): from 0.
            read (Callable): linear layers of features, places and their indices to what
                the layers make of the features there; all indices for None.
            points (torch.Tensor): of the stage.
            chosen (torch.Tensor): indices of the anchors.

        Shape:
            - ``points``: (R, P, 2); ``chosen``: (R, A)
            - outputs: (R, P, Dv) and (R, A, Dv)
        """
        layer, pair = self.difference[stage], self.pair[stage]
        of_difference, of_anchor = pair.weight.chunk(2, dim=1)
        d_features, d_places = layer.weight[:, :-2], layer.weight[:, -2:]
        anchors, dtype = _at(points, chosen), pair.weight.dtype
        moved = read(
            lambda x: F.linear(F.linear(x, d_features), of_difference), points, None
        )
        moved = moved + F.linear(points.to(dtype), of_difference @ d_places)
        fixed = read(lambda x: F.linear(x, of_anchor[:, :-2]), anchors, chosen)
        constant = F.linear(layer.bias, of_difference, pair.bias)
        fixed = fixed + F.linear(anchors.to(dtype), of_anchor[:, -2:], constant)
        return moved, fixed - _at(moved, chosen)

    def _pooled(
        self,
        stage: int,
        moved: torch.Tensor,
        fixed: torch.Tensor,
        neighbours: torch.Tensor,
    ) -> torch.Tensor:
        """Pool over the neighbours of every anchor: (R, A, Dv)."""
        width = moved.shape[-1]
        at_once = max(1, _MAX_NUMBERS // (width * neighbours.shape[-1]))
        pooled = []
        for one, own, near in zip(moved, fixed, neighbours, strict=True):
            for base, index in zip(
                own.split(at_once), near.split(at_once), strict=True
            ):
                # In place: new memory costs more here than the arithmetic.
                pairs = one.index_select(0, index.flatten()).view(*index.shape, width)
                pairs = self.norm[stage](pairs.add_(base[:, None]).relu_())
                if self.pooler == "mean":
                    pooled.append(pairs.mean(1))
                elif torch.is_grad_enabled():  # the gradient goes to one pair
                    pooled.append(pairs.max(1).values)
                else:
                    pooled.append(pairs.amax(1))
        return torch.cat(pooled).view_as(fixed) if pooled else fixed

    @classmethod
    def tiny(cls, vision_spec: Any = None, out_width: int = 48) -> FerretSampler:
        """Build a miniature for tests."""
        sizes = dict(num_points=16, num_sub_points=(8, 4), num_neighbours=(4, 4))
        return super().tiny(vision_spec, out_width, **sizes)


def _at(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return the rows (R, A, C) at an index (R, A) of each region."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _read_at(
    values: torch.Tensor, layers: Callable, _: Any, index: torch.Tensor | None
) -> torch.Tensor:
    """Apply layers to the rows at an index; to all for None."""
    return layers(values if index is None else _at(values, index))
