"""Ferret's visual sampler in the official order: every pair by itself.

Regions copy the feature map of their image; the second layer is a convolution over the
neighbours, channels before them, with norm and maximum after turning them back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


def plain_sampler(
    sampler: nn.Module,
    feature_map: torch.Tensor,
    points: torch.Tensor,
    starts: torch.Tensor,
    chosen: Sequence[tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> torch.Tensor:
    """Run the sampler's weights over pairs of a point and an anchor.

    Args:
        sampler (FerretSampler): whose weights are used.
        feature_map (torch.Tensor): of the one image.
        points (torch.Tensor): of its regions.
        starts (torch.Tensor): first point of every stage.
        chosen (Sequence[tuple] | None): indices of every stage's anchors, (R, A), and
            of their neighbours, (R, A, K). None looks for them, and projects what the
            last stage leaves.

    Shape:
        - ``feature_map``: (1, C, H, W); ``points``: (R, P, 2); ``starts``: (R, S)
        - output: (R, Dl); (R, A, C) where anchors are given
    """
    grid = 2 * points.flip(-1) - 1
    maps = feature_map.repeat(len(points), 1, 1, 1)
    sampled = F.grid_sample(maps, grid[:, :, None], align_corners=True)
    features = sampled.squeeze(3).transpose(1, 2)
    lines = torch.arange(len(points))[:, None]
    for stage, count in enumerate(sampler.num_sub_points):
        if chosen is None:
            own = _farthest(points, count, starts[:, stage])
            near = _nearest(points[lines, own], points, sampler.num_neighbours[stage])
        else:
            own, near = chosen[stage]
        anchors, anchor_features = points[lines, own], features[lines, own]
        local = torch.cat([_grouped(features, near), _grouped(points, near)], -1)
        anchor = torch.cat([anchor_features, anchors], -1)[:, :, None]
        difference = sampler.difference[stage](local - anchor)
        pairs = torch.cat([difference, anchor.expand_as(difference)], -1)
        pairs = pairs.transpose(2, 3).flatten(0, 1)  # (R * A, channels, K)
        layer = sampler.pair[stage]
        pairs = F.relu_(F.conv1d(pairs, layer.weight[..., None], layer.bias))
        pairs = sampler.norm[stage](pairs.transpose(1, 2)).transpose(1, 2)
        features = F.adaptive_max_pool1d(pairs, 1).view(*own.shape, -1)
        points = anchors
    if chosen is not None:
        return features
    return sampler.out_proj(sampler.flatten_proj(features.flatten(1)))


def _farthest(points: torch.Tensor, count: int, start: torch.Tensor) -> torch.Tensor:
    """Return the indices of points far from each other, (R, count)."""
    lines = torch.arange(len(points))
    chosen = torch.zeros(len(points), count, dtype=torch.long)
    distance = points.new_full(points.shape[:2], 1e10)
    farthest = start
    for number in range(count):
        chosen[:, number] = farthest
        centre = points[lines, farthest][:, None]
        distance = distance.minimum(((points - centre) ** 2).sum(-1))
        farthest = distance.max(-1)[1]
    return chosen


def _nearest(anchors: torch.Tensor, points: torch.Tensor, count: int) -> torch.Tensor:
    """Return the indices of each anchor's nearest points, (R, A, count)."""
    distance = -2 * anchors @ points.transpose(1, 2)
    distance = distance + (anchors**2).sum(-1)[:, :, None]
    distance = distance + (points**2).sum(-1)[:, None]
    return distance.topk(count, dim=-1, largest=False, sorted=False)[1]


def _grouped(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return the rows at an index, (R, A, K, C)."""
    lines = torch.arange(len(values)).view(-1, 1, 1)
    return values[lines, index]
