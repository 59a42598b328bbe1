"""Geometry of dual-perspective views (INF-LLaVA): crops, samplings, and back.

An image of N x N times a view's size becomes N * N ``local`` views, the blocks of
an N x N grid, and N * N ``global`` views, each of every N-th row and column. Both
kinds hold every pixel once. Data side and model side count with the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .vision import ViewLayout

Size = tuple[int, int]
#: ``ViewLayout.kind`` of images whose views are made here.
LAYOUT_KIND = "dual_perspective"
#: Kinds of views in the order in which an image's views stand.
VIEW_KINDS = ("local", "global", "resized")


@dataclass(frozen=True)
class DualPerspective:
    """Which views an image gives.

    Args:
        grid (int): N, views per side of each kind of crop.
        kinds (tuple[str, ...]): a part of ``VIEW_KINDS`` in their order:
            ``local`` (N * N), ``global`` (N * N), ``resized`` (1, the whole
            image).

    Raises:
        ValueError: ``grid`` below 1, no kind, an unknown one or another order.
    """

    grid: int = 3
    kinds: tuple[str, ...] = VIEW_KINDS

    def __post_init__(self) -> None:
        if self.grid < 1:
            raise ValueError(f"dual-perspective views: grid={self.grid}, expected > 0.")
        kept = tuple(kind for kind in VIEW_KINDS if kind in self.kinds)
        if not kept or kept != tuple(self.kinds):
            raise ValueError(
                f"dual-perspective views: kinds={list(self.kinds)}, expected some of "
                f"{list(VIEW_KINDS)} in this order."
            )

    def __str__(self) -> str:
        side = f"{self.grid} x {self.grid}"
        words = (f"{1 if k == 'resized' else side} {k}" for k in self.kinds)
        return ", ".join(words)

    @property
    def num_views(self) -> int:
        """2 * N * N + 1 with all three kinds."""
        return sum(1 if k == "resized" else self.grid**2 for k in self.kinds)

    def span(self, kind: str) -> slice:
        """Return the places of one kind among an image's views."""
        before = self.kinds[: self.kinds.index(kind)]
        start = sum(self.grid**2 for _ in before)
        return slice(start, start + (1 if kind == "resized" else self.grid**2))

    def layout(self, original: Size, view: Size, **place: Size) -> ViewLayout:
        """Return the layout of an image.

        Args:
            original (tuple[int, int]): height and width of the image.
            view (tuple[int, int]): height and width of one view.
            **place: ``scale`` and ``offset`` into the resized view.
        """
        return ViewLayout(
            original_size=original,
            view_size=view,
            num_views=self.num_views,
            kind=LAYOUT_KIND,
            extra=(self.grid, tuple(self.kinds)),
            **place,
        )

    @classmethod
    def of(cls, layout: ViewLayout | None) -> DualPerspective | None:
        """Return which views a layout has; None for one of another kind."""
        if layout is None or layout.kind != LAYOUT_KIND:
            return None
        return cls(*layout.extra)


def crop_views(
    maps: torch.Tensor, grid: int, kind: str, dims: Sequence[int] = (-2, -1)
) -> torch.Tensor:
    """Cut maps into N x N blocks (``local``) or N x N samplings (``global``).

    View ``i * N + j`` holds, of ``local``, rows ``i * h`` to ``(i + 1) * h`` and
    columns ``j * w`` to ``(j + 1) * w``; of ``global``, rows ``i, i + N, ...`` and
    columns ``j, j + N, ...``.

    Args:
        maps (torch.Tensor): images or feature maps.
        grid (int): N.
        kind (str): ``local`` or ``global``.
        dims (Sequence[int]): the dimensions of rows and columns, in this order and
            neighbours.

    Shape:
        - ``maps``: (..., N * h, N * w), or rows and columns elsewhere
        - output: (N * N, ..., h, w), a new tensor where N > 1

    Raises:
        ValueError: when a side is no multiple of N, or ``kind`` is unknown.
    """
    row, column = _places(maps.ndim, dims)
    sides = (maps.shape[row], maps.shape[column])
    if sides[0] % grid or sides[1] % grid:
        raise ValueError(
            f"dual-perspective views: {sides[0]} x {sides[1]} does not divide into a "
            f"grid of {grid} x {grid}."
        )
    axes = _grid_axes(row, kind)
    split = [(grid, s // grid) if kind == "local" else (s // grid, grid) for s in sides]
    parts = maps.unflatten(column, split[1]).unflatten(row, split[0])
    return parts.movedim(axes, (0, 1)).flatten(0, 1)


def reassemble_views(
    crops: torch.Tensor, grid: int, kind: str, dims: Sequence[int] = (-2, -1)
) -> torch.Tensor:
    """Put crops back in their places; undoes :func:`crop_views`.

    Args:
        crops (torch.Tensor): views of one kind.
        grid (int): N.
        kind (str): ``local`` or ``global``.
        dims (Sequence[int]): rows and columns of the *output*, neighbours.

    Shape:
        - ``crops``: (N * N, ..., h, w)
        - output: (..., N * h, N * w)

    Raises:
        ValueError: when there are not N * N crops, or ``kind`` is unknown.
    """
    if len(crops) != grid**2:
        raise ValueError(
            f"dual-perspective views: {len(crops)} {kind} views, a grid of {grid} x "
            f"{grid} has {grid**2}."
        )
    row, column = _places(crops.ndim - 1, dims)
    axes = _grid_axes(row, kind)
    parts = crops.unflatten(0, (grid, grid)).movedim((0, 1), axes)
    return parts.flatten(row, row + 1).flatten(column, column + 1)


def recrop_views(
    crops: torch.Tensor,
    grid: int,
    kinds: tuple[str, str],
    dims: Sequence[int] = (-2, -1),
) -> torch.Tensor:
    """Turn views of one kind into views of another over the same map.

    Args:
        crops (torch.Tensor): views of the kind ``kinds[0]``.
        grid (int): N.
        kinds (tuple[str, str]): what they are and what they shall be.
        dims (Sequence[int]): rows and columns of the map.

    Shape:
        - ``crops``: (N * N, ..., h, w); output: the same; the input itself when both
          kinds are one
    """
    if kinds[0] == kinds[1]:
        return crops
    maps = reassemble_views(crops, grid, kinds[0], dims)
    return crop_views(maps, grid, kinds[1], dims)


def _places(ndim: int, dims: Sequence[int]) -> tuple[int, int]:
    row, column = (dim % ndim for dim in dims)
    if column != row + 1:
        raise ValueError(f"dims={tuple(dims)}: rows and columns must be neighbours.")
    return row, column


def _grid_axes(row: int, kind: str) -> tuple[int, int]:
    """Where the grid's two axes lie once rows and columns are split."""
    if kind not in ("local", "global"):
        raise ValueError(f"kind={kind!r}: expected 'local' or 'global'.")
    first = row if kind == "local" else row + 1
    return first, first + 2
