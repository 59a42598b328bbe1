"""Points on a feature map: bilinear features, farthest points, nearest neighbours."""

from __future__ import annotations

import torch
from torch.nn import functional as F

COORD_ORDERS = ("transposed", "xy")


def sample_features(
    patches: torch.Tensor,
    grid: tuple[int, int],
    points: torch.Tensor,
    views: torch.Tensor,
    coord_order: str = "xy",
) -> torch.Tensor:
    """Interpolate features at points, in float32.

    As ``grid_sample(align_corners=True)``: 0 is the middle of the first cell, 1 that of
    the last; outside is zero. One weighted sum of four rows per point; the features are
    neither copied per region nor laid out by channel.

    Args:
        patches (torch.Tensor): features of all views.
        grid (tuple[int, int]): their rows and columns.
        points (torch.Tensor): x and y, fractions of the view.
        views (torch.Tensor): of each region.
        coord_order (str): ``xy``; ``transposed`` reads the row from x and the column
            from y, as Ferret's code does and its weights have learnt.

    Shape:
        - ``patches``: (V, N, C); ``points``: (R, P, 2); ``views``: (R,)
        - output: (R, P, C), float32
    """
    rows, cols = grid
    x, y = points.float().unbind(-1)
    if coord_order == "transposed":
        x, y = y, x
    column, row = x * (cols - 1), y * (rows - 1)
    index, weight = [], []
    for r, by_row in _neighbours(row, rows):
        for c, by_column in _neighbours(column, cols):
            index.append(views[:, None] * (rows * cols) + r * cols + c)
            weight.append(by_row * by_column)
    table = patches.float().flatten(0, 1)
    if not len(views):
        return table.new_zeros(*points.shape[:2], table.shape[-1]) + table.sum() * 0
    picked = F.embedding_bag(
        torch.stack(index, -1).flatten(0, 1),
        table,
        per_sample_weights=torch.stack(weight, -1).flatten(0, 1),
        mode="sum",
    )
    return picked.view(*points.shape[:2], -1)


def _neighbours(place: torch.Tensor, size: int) -> list[tuple]:
    """Return the cells before and behind a place, and their weights."""
    before = place.floor()
    share = place - before
    found = []
    for cell, weight in ((before, 1 - share), (before + 1, share)):
        inside = (cell >= 0) & (cell < size)
        found.append((cell.clamp(0, size - 1).long(), weight * inside))
    return found


def farthest_points(
    points: torch.Tensor, count: int, starts: torch.Tensor
) -> torch.Tensor:
    """Choose points that lie far from each other, from a first one on.

    Args:
        points (torch.Tensor): float32: in half precision neighbours collapse.
        count (int): how many to choose.
        starts (torch.Tensor): index of the first of each region.

    Shape:
        - ``points``: (R, P, 2); ``starts``: (R,), int64
        - output: (R, count), int64
    """
    chosen = [starts]
    lines = torch.arange(len(points), device=points.device)
    nearest: torch.Tensor | None = None
    for _ in range(count - 1):
        to_last = (points - points[lines, chosen[-1]][:, None]).square().sum(-1)
        nearest = to_last if nearest is None else torch.minimum(nearest, to_last)
        chosen.append(nearest.argmax(-1))
    return torch.stack(chosen, dim=1)


def nearest_points(
    anchors: torch.Tensor, points: torch.Tensor, count: int
) -> torch.Tensor:
    """Return the points nearest to each anchor, in no order.

    Shape:
        - ``anchors``: (R, A, 2); ``points``: (R, P, 2), float32
        - output: (R, A, count), int64
    """
    # Differences, not the expanded product, whose rounding moves close neighbours.
    distance = (anchors[:, :, None] - points[:, None]).square().sum(-1)
    return distance.topk(count, dim=-1, largest=False, sorted=False).indices
