"""One encoder at several scales of an image (S2): cut, run, stitch, pool, join."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

# B images, C channels, S side of an image, s splits per side, N tokens, D width.


def cut_squares(pixel_values: torch.Tensor, size: int, splits: int) -> torch.Tensor:
    """Resize images and cut each into ``splits`` x ``splits`` equal squares.

    Bicubic without antialiasing, in float32. Tile (r, c) of image b is row
    ``(r * splits + c) * B + b``.

    Args:
        pixel_values (torch.Tensor): square images.
        size (int): side in pixels after resizing, a multiple of ``splits``.
        splits (int): tiles per side.

    Shape:
        - ``pixel_values``: (B, C, S, S)
        - output: (splits * splits * B, C, size / splits, size / splits)

    Raises:
        ValueError: when ``size`` does not divide.
    """
    if size % splits:
        raise ValueError(
            f"a scale of {size} pixels does not divide into {splits} x {splits} tiles."
        )
    if pixel_values.shape[-1] != size and len(pixel_values):
        resized = F.interpolate(
            pixel_values.float(), (size, size), mode="bicubic", align_corners=False
        )
        pixel_values = resized.to(pixel_values.dtype)
    elif pixel_values.shape[-1] != size:
        pixel_values = pixel_values.new_zeros(0, pixel_values.shape[1], size, size)
    rows = pixel_values.unflatten(2, (splits, -1)).unflatten(4, (splits, -1))
    # (B, C, r, h, c, w) -> (r, c, B, C, h, w)
    return rows.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)


def stitch_squares(maps: torch.Tensor, splits: int) -> torch.Tensor:
    """Put the maps of tiles, in the order of :func:`cut_squares`, together.

    Shape:
        - ``maps``: (splits * splits * B, D, h, w)
        - output: (B, D, splits * h, splits * w)
    """
    tiles = maps.unflatten(0, (splits, splits, -1))
    # (r, c, B, D, h, w) -> (B, D, r, h, c, w)
    return tiles.permute(2, 3, 0, 4, 1, 5).flatten(4, 5).flatten(2, 3)


def join_scales(maps: Sequence[torch.Tensor], side: int) -> torch.Tensor:
    """Pool the maps of all scales to one size and join their channels.

    Area interpolation (adaptive average pooling) in float32, also upwards.

    Shape:
        - ``maps[i]``: (B, D, side_i, side_i)
        - output: (B, D * len(maps), side, side)
    """
    pooled = [
        m if m.shape[-1] == side else F.adaptive_avg_pool2d(m.float(), side).to(m.dtype)
        for m in maps
    ]
    return torch.cat(pooled, 1)


def to_map(tokens: torch.Tensor) -> torch.Tensor:
    """(B, N, D) tokens of a square grid, row by row, to a (B, D, side, side) map."""
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} tokens are no square grid.")
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def join_prefix(prefixes: Sequence[torch.Tensor], splits: Sequence[int]):
    """Average each scale's prefix tokens over its tiles and join the channels.

    Shape:
        - ``prefixes[i]``: (splits_i * splits_i * B, P, D)
        - output: (B, P, D * len(prefixes))
    """
    means = [
        tokens.unflatten(0, (number * number, -1)).mean(0)
        for tokens, number in zip(prefixes, splits, strict=True)
    ]
    return torch.cat(means, -1)


def multiscale_forward(
    model: Callable[[torch.Tensor], torch.Tensor],
    pixel_values: torch.Tensor,
    *,
    scales: Sequence[float] | None = None,
    img_sizes: Sequence[int] | None = None,
    max_split_size: int | None = None,
    resize_output_to_idx: int = 0,
    num_prefix_token: int = 0,
    output_shape: str = "bnc",
    split_forward: bool = False,
) -> torch.Tensor:
    """Run a model on several sizes of an image, large ones cut into tiles.

    The tiles' maps are stitched, pooled to the size of one scale's map and joined
    on channels, so the number of tokens stays and the width grows.

    Paper: Shi et al., "When Do We Not Need Larger Vision Models?", ECCV 2024, arXiv
    2403.13043. Deviations: none.

    Args:
        model (Callable): (b, C, h, h) pixels to features of ``output_shape``.
        pixel_values (torch.Tensor): square images.
        scales (Sequence[float] | None): sizes as multiples of S.
        img_sizes (Sequence[int] | None): or sizes in pixels; exactly one is given.
        max_split_size (int | None): largest side of a tile in pixels; None means S.
        resize_output_to_idx (int): the scale whose map size all scales get.
        num_prefix_token (int): leading tokens that are no patches; they are
            averaged over tiles and stay in front.
        output_shape (str): ``bnc`` (tokens) or ``bchw`` (maps).
        split_forward (bool): run tile after tile (B at a time): less memory.

    Shape:
        - ``pixel_values``: (B, C, S, S)
        - output: (B, P + N, D * scales) or (B, D * scales, side, side)

    Raises:
        ValueError: images that are not square, an unknown ``output_shape``,
            prefix tokens with maps, or sizes that do not divide into tiles.
    """
    _check(pixel_values, scales, img_sizes, num_prefix_token, output_shape)
    side = pixel_values.shape[-1]
    sizes = [int(side * scale) for scale in scales or ()] or list(img_sizes)
    splits = [math.ceil(size / (max_split_size or side)) for size in sizes]
    maps, prefixes = [], []
    for size, number in zip(sizes, splits, strict=True):
        tiles = cut_squares(pixel_values, size, number)
        chunks = tiles.split(len(pixel_values)) if split_forward else (tiles,)
        features = torch.cat([model(chunk) for chunk in chunks])
        if output_shape == "bnc":
            prefixes.append(features[:, :num_prefix_token])
            features = to_map(features[:, num_prefix_token:])
        maps.append(stitch_squares(features, number))
    joined = join_scales(maps, maps[resize_output_to_idx].shape[-1])
    if output_shape == "bchw":
        return joined
    tokens = joined.flatten(2).transpose(1, 2)
    if not num_prefix_token:
        return tokens
    return torch.cat([join_prefix(prefixes, splits), tokens], 1)


def _check(pixel_values, scales, img_sizes, num_prefix_token, output_shape) -> None:
    if pixel_values.ndim != 4 or pixel_values.shape[2] != pixel_values.shape[3]:
        raise ValueError(
            f"S2 takes square images (B, C, S, S), got {tuple(pixel_values.shape)}."
        )
    if (scales is None) == (img_sizes is None):
        raise ValueError("S2: give either scales or img_sizes.")
    if output_shape not in ("bnc", "bchw"):
        raise ValueError(f"output_shape={output_shape!r}: expected 'bnc' or 'bchw'.")
    if num_prefix_token and output_shape == "bchw":
        raise ValueError("output_shape='bchw' has no room for prefix tokens.")
