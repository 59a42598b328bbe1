"""Fixed position tables of grids, and their change to another grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


def sincos_grid(width: int, grid: tuple[int, int]) -> torch.Tensor:
    """Return the 2-D sine-cosine table of a grid, row by row.

    The first half of the channels tells the column, the second the row; each half
    is the sines, then the cosines, of position * 10000^(-4i / width).

    Args:
        width (int): channels, a multiple of 4.
        grid (tuple[int, int]): rows and columns.

    Shape:
        - output: (rows * columns, width), float32

    Raises:
        ValueError: when ``width`` is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"sincos_grid: width {width} is no multiple of 4.")
    steps = torch.arange(width // 4, dtype=torch.float64) * (4 / width)
    rates = 10000.0**-steps
    rows, cols = (torch.arange(side, dtype=torch.float64) for side in grid)
    row, col = torch.meshgrid(rows, cols, indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in (col, row)]
    table = torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1)
    return table.float()


def resize_grid(
    table: torch.Tensor, source: tuple[int, int], target: tuple[int, int]
) -> torch.Tensor:
    """Interpolate a position table to another grid (bicubic, in float32).

    Shape:
        - ``table``: (H * W, D) with ``source`` = (H, W)
        - output: (H' * W', D) with ``target`` = (H', W'), dtype of ``table``
    """
    if source == target:
        return table
    image = table.float().unflatten(0, source).permute(2, 0, 1)[None]
    resized = functional.interpolate(
        image, size=target, mode="bicubic", align_corners=False
    )
    return resized[0].permute(1, 2, 0).flatten(0, 1).to(table.dtype)


def packed_positions(
    table: torch.Tensor,
    source: tuple[int, int],
    grids: Sequence[tuple[int, int]],
    length: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Interpolate a position table to the own grid of every view.

    Args:
        table (torch.Tensor): of the grid ``source``.
        source (tuple[int, int]): rows and columns of ``table``.
        grids (Sequence[tuple[int, int]]): rows and columns of every view.
        length (int): N, tokens per view, of which a view uses the first ones.

    Shape:
        - ``table``: (H * W, D)
        - positions: (V, N, D), dtype of ``table``, zero behind a view's own
        - absent: (V, N), bool, True behind a view's own
    """
    distinct = {tuple(grid): None for grid in grids}
    places = {
        grid: functional.pad(
            resize_grid(table, source, grid), (0, 0, 0, length - grid[0] * grid[1])
        )
        for grid in distinct
    }
    used = torch.tensor([rows * cols for rows, cols in grids], device=table.device)
    absent = torch.arange(length, device=table.device) >= used[:, None]
    return torch.stack([places[tuple(grid)] for grid in grids]), absent
