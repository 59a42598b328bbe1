"""Join the views of a tiled image into one row of embeddings."""

from __future__ import annotations

import torch

from mmvlm.structures.tiles import unpadded_crop


def merge_tiles(
    view_embeds: torch.Tensor,
    original_size: tuple[int, int],
    tiles: tuple[int, int],
    grid: tuple[int, int],
    newline: torch.Tensor | None = None,
) -> torch.Tensor:
    """Whole image first, then the tiles stitched to one map, row by row.

    With ``newline`` the padding around the image is cut off and every row of
    the map ends with it (LLaVA-1.6's ``spatial_unpad``); without, the whole map
    is kept (``spatial``).

    Args:
        view_embeds (torch.Tensor): the image's views.
        original_size (tuple[int, int]): height and width in pixels.
        tiles (tuple[int, int]): rows and columns of tiles; (0, 0) for none.
        grid (tuple[int, int]): rows and columns of patches per view.
        newline (torch.Tensor | None): learned row end.

    Shape:
        - ``view_embeds``: (1 + tiles, N, Dl); ``newline``: (Dl,)
        - output: (S, Dl), S = :func:`mmvlm.structures.tiles.num_tile_tokens`

    Raises:
        ValueError: when views and tiles disagree.
    """
    if len(view_embeds) != 1 + tiles[0] * tiles[1]:
        raise ValueError(
            f"{len(view_embeds)} views for {tiles[0]} x {tiles[1]} tiles and the "
            "whole image."
        )
    base, rest = view_embeds[0], view_embeds[1:]
    if not len(rest):
        return base if newline is None else torch.cat([base, newline[None]])
    width = base.shape[-1]
    # (tile rows, tile cols, rows, cols, D) -> (all rows, all cols, D)
    stitched = rest.view(*tiles, *grid, width).permute(0, 2, 1, 3, 4)
    stitched = stitched.reshape(tiles[0] * grid[0], tiles[1] * grid[1], width)
    if newline is not None:
        size = tuple(stitched.shape[:2])
        top, bottom, left, right = unpadded_crop(original_size, size)
        stitched = stitched[top:bottom, left:right]
        ends = newline.expand(len(stitched), 1, width)
        stitched = torch.cat([stitched, ends.to(stitched.dtype)], 1)
    return torch.cat([base, stitched.flatten(0, 1)])
