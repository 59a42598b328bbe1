"""Sampling of multi-scale deformable attention, with a backend per machine.

B batch, S values over all levels, M heads, D channels per head, Q queries,
L levels, K points per level.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from mmengine.logging import print_log
from torch.nn import functional as F

from mmvlm.models.utils.tensor_cache import cache_tensors

from .compiled import load_ops

#: Height and width of every level.
Shapes = Sequence[tuple[int, int]]
#: Most samples that one launch of mmcv's kernel takes.
IM2COL_STEP = 64


def deform_attn_sample(
    value: torch.Tensor,
    shapes: Shapes,
    locations: torch.Tensor,
    weights: torch.Tensor,
    backend: str | None = None,
) -> torch.Tensor:
    """Sum bilinear samples of every head's value maps with attention weights.

    A corner of a point that lies outside its map counts as zero on its own. The
    computation is float32 (float64 for float64 values) whatever comes in.

    Paper: Zhu et al., "Deformable DETR", ICLR 2021, arXiv 2010.04159, eq. 3
    without the projections.

    Args:
        value (torch.Tensor): maps of all levels, row-major, one after another.
        shapes (Shapes): height and width of every level.
        locations (torch.Tensor): (x, y) in 0-1 over the level's map; outside is
            allowed.
        weights (torch.Tensor): attention weights, summing to 1 over L and K.
        backend (str | None): one of ``BACKENDS``; None takes
            :func:`choose_backend`.

    Shape:
        - ``value``: (B, S, M, D), S = sum of H * W over levels, B may be 0
        - ``locations``: (B, Q, M, L, K, 2)
        - ``weights``: (B, Q, M, L, K)
        - output: (B, Q, M * D), dtype of ``value``

    Raises:
        ValueError: for shapes that do not fit, or an unknown backend.
        RuntimeError: when the backend that is asked for cannot run here.
    """
    shapes = tuple((height, width) for height, width in shapes)
    _check(value, shapes, locations, weights)
    name = choose_backend(value.device.type, backend)
    dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
    out = BACKENDS[name](
        value.to(dtype), shapes, locations.to(dtype), weights.to(dtype)
    )
    return out.to(value.dtype)


def _check(
    value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor
) -> None:
    total = sum(height * width for height, width in shapes)
    batch, count, heads, _ = value.shape
    expected = (batch, locations.shape[1], heads, len(shapes), locations.shape[4])
    if (
        count != total
        or tuple(locations.shape) != (*expected, 2)
        or tuple(weights.shape) != expected
    ):
        raise ValueError(
            f"deform_attn_sample: value {tuple(value.shape)}, locations "
            f"{tuple(locations.shape)} and weights {tuple(weights.shape)} do not fit "
            f"levels {list(shapes)}; expected (B, {total}, M, D), (B, Q, M, "
            f"{len(shapes)}, K, 2) and (B, Q, M, {len(shapes)}, K)."
        )


# ------------------------------------------------------------------ choice
@torch.compiler.assume_constant_result
def choose_backend(device: str, backend: str | None = None) -> str:
    """Return the backend to use, telling it once per device.

    On a GPU mmcv's kernel, else ``bag``; on a CPU our C++ operator where it is
    built or can be, else ``bag``.

    Args:
        device (str): type of the device, such as ``cpu``.
        backend (str | None): a backend's name; None chooses.

    Raises:
        ValueError: for an unknown name.
        RuntimeError: when the backend asked for cannot run on the device.
    """
    if backend is None:
        return _automatic(device)
    if backend not in BACKENDS:
        raise ValueError(
            f"deformable attention: backend {backend!r}, expected one of "
            f"{list(BACKENDS)} or None."
        )
    reason = _why_not(backend, device)
    if reason is not None:
        raise RuntimeError(
            f"deformable attention: backend '{backend}' cannot run on {device}: "
            f"{reason}."
        )
    return backend


@functools.cache
def _automatic(device: str) -> str:
    first = "cuda" if device == "cuda" else "cpp"
    reason = _why_not(first, device)
    name = first if reason is None else "bag"
    note = "" if reason is None else f" ('{first}' is off: {reason})"
    print_log(f"deformable attention on {device}: backend '{name}'{note}", "current")
    return name


@functools.cache
def _why_not(name: str, device: str) -> str | None:
    """Return what hinders a backend on a device; None when nothing does."""
    if name == "cpp":
        return "it is for the CPU" if device != "cpu" else load_ops()
    if name == "cuda":
        if device != "cuda":
            return "it is for CUDA devices"
        try:
            from mmcv.ops import get_compiling_cuda_version
        except ImportError as error:
            return f"mmcv has no compiled operators ({error})"
        if get_compiling_cuda_version() == "not available":
            return "mmcv was compiled without CUDA"
    return None


# ---------------------------------------------------------------- backends
def _bag(
    value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Weighted embedding bags over 4 x L x K rows of a (B * S * M, D) table."""
    batch, count, heads, channels = value.shape
    queries = locations.shape[1]
    if not batch * queries:  # embedding_bag takes no empty list of bags
        return value.sum() * locations.sum() * weights.sum() + value.new_zeros(
            batch, queries, heads * channels
        )
    narrow = batch * count * heads < 2**31
    index, share = _corners(shapes, locations, torch.int32 if narrow else torch.int64)
    row = torch.arange(batch * heads, device=value.device, dtype=index.dtype)
    row = row // heads * (count * heads) + row % heads  # (n, head) -> row of value 0
    index = index.mul_(heads).add_(row.view(batch, 1, heads, 1, 1, 1))
    share = share * weights[..., None]
    out = F.embedding_bag(
        index.view(batch * queries * heads, -1),
        value.reshape(batch * count * heads, channels),
        per_sample_weights=share.view(batch * queries * heads, -1),
        mode="sum",
    )
    return out.view(batch, queries, heads * channels)


def _corners(
    shapes: Shapes, locations: torch.Tensor, integer: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return position among the values and bilinear share of 4 corners per point.

    Shape:
        - ``locations``: (..., L, K, 2)
        - output: (..., L, K, 4), of dtype ``integer``, and the same as shares
    """
    kind = dict(device=locations.device, dtype=locations.dtype)
    areas = [height * width for height, width in shapes]
    widths = torch.tensor([width for _, width in shapes], **kind)[:, None]
    heights = torch.tensor([height for height, _ in shapes], **kind)[:, None]
    starts = [sum(areas[:level]) for level in range(len(areas))]
    start = torch.tensor(starts, device=locations.device, dtype=integer)[:, None]
    x, x_share = _two(locations[..., 0], widths, integer)
    y, y_share = _two(locations[..., 1], heights, integer)
    y = [row * widths.to(integer) + start for row in y]
    index = torch.stack([row + column for row in y for column in x], -1)
    share = torch.stack([a * b for a in y_share for b in x_share], -1)
    return index, share


def _two(
    location: torch.Tensor, size: torch.Tensor, integer: torch.dtype
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the two neighbours along one axis: positions inside, and shares.

    A neighbour outside has share zero and the position at the border.
    """
    pixel = location * size - 0.5
    low = pixel.detach().floor()
    part = pixel - low
    last = size - 1
    positions, shares = [], []
    for place, share in ((low, 1 - part), (low + 1, part)):
        inside = place.clamp(min=0).minimum(last)
        positions.append(inside.to(integer))
        shares.append(share * (place == inside))
    return positions, shares


def _grid(
    value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """``grid_sample`` level by level, summing over a middle axis: the points."""
    batch, count, heads, channels = value.shape
    queries = locations.shape[1]
    if not batch * queries:
        return _bag(value, shapes, locations, weights)
    maps = value.permute(0, 2, 3, 1).reshape(batch * heads, channels, count)
    maps = maps.split([height * width for height, width in shapes], -1)
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)
    shares = weights.permute(3, 0, 2, 4, 1).flatten(1, 2)[:, :, None]
    out = torch.zeros((), device=value.device, dtype=value.dtype)
    for level, shape in enumerate(shapes):
        sampled = F.grid_sample(
            maps[level].unflatten(-1, shape),
            grids[level],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )  # (B * M, D, K, Q)
        out = out + (sampled * shares[level]).sum(2)
    return out.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


def _cpp(
    value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Our C++ operator; it keeps only its inputs for the backward pass."""
    flat = [side for shape in shapes for side in shape]
    return torch.ops.mmvlm.deform_attn(value, flat, locations, weights)


def _cuda(
    value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The kernel of mmcv, which wants contiguous tensors and a step that divides B."""
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    if not value.shape[0] * locations.shape[1]:
        return _bag(value, shapes, locations, weights)
    return MultiScaleDeformableAttnFunction.apply(
        value.contiguous(),
        *_level_tensors(shapes, value.device),
        locations.contiguous(),
        weights.contiguous(),
        dividing_step(value.shape[0]),
    )


@cache_tensors(32)
def _level_tensors(
    shapes: Shapes, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int64 shapes and starts; kept, so that steps copy nothing to a GPU."""
    sizes = torch.tensor(shapes, dtype=torch.int64, device="cpu")
    areas = sizes.prod(1)
    return sizes.to(device), (areas.cumsum(0) - areas).to(device)


def dividing_step(batch: int, most: int = IM2COL_STEP) -> int:
    """Return the largest divisor of ``batch`` that is at most ``most``.

    Example:
        >>> [dividing_step(n) for n in (1, 64, 80, 67)]
        [1, 64, 40, 1]
    """
    return max(step for step in range(1, min(batch, most) + 1) if batch % step == 0)


BACKENDS: dict[str, Callable[..., torch.Tensor]] = {
    "cuda": _cuda,
    "cpp": _cpp,
    "bag": _bag,
    "grid": _grid,
}
