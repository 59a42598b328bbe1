"""Collectives that the engine needs; each is a plain call in one process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.dist import barrier, get_dist_info, is_distributed

__all__ = [
    "barrier",
    "broadcast_object",
    "gather_integers",
    "gather_objects",
    "get_dist_info",
    "is_distributed",
    "sum_tensor",
]


@lru_cache(maxsize=1)
def _host_group() -> Any:
    """Return a group whose collectives run on the host, without device syncs."""
    if torch_dist.get_backend() == "gloo":
        return None
    return torch_dist.new_group(backend="gloo")


def gather_integers(values: Sequence[int]) -> list[list[int]]:
    """Return every rank's integers; no device is touched or synchronised."""
    world_size = get_dist_info()[1]
    if world_size == 1:
        return [list(values)]
    own = torch.tensor(values, dtype=torch.int64)
    gathered = [torch.empty_like(own) for _ in range(world_size)]
    torch_dist.all_gather(gathered, own, group=_host_group())
    return [one.tolist() for one in gathered]


def sum_tensor(value: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over ranks in place, on its own device, and return it."""
    if get_dist_info()[1] > 1:
        torch_dist.all_reduce(value)
    return value


def gather_objects(value: Any) -> list:
    """Return one picklable object per rank, on every rank."""
    world_size = get_dist_info()[1]
    if world_size == 1:
        return [value]
    gathered = [None] * world_size
    torch_dist.all_gather_object(gathered, value, group=_host_group())
    return gathered


def broadcast_object(value: Any) -> Any:
    """Return rank 0's object on every rank."""
    if get_dist_info()[1] == 1:
        return value
    box = [value]
    torch_dist.broadcast_object_list(box, src=0, group=_host_group())
    return box[0]
