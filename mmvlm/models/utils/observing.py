"""Let a module show what it looked at, for those who watch.

A module that samples points or weighs experts calls :func:`report` in its
``forward``. That does nothing unless somebody watches with :func:`observe`:

    report(SamplingPoints(self, locations, weights))
    report(RoutingWeights(self, weights))
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch

_watched: ContextVar[list | None] = ContextVar("mmvlm_observed", default=None)


@dataclass
class SamplingPoints:
    """Where every query of a deformable attention looked.

    Args:
        module (torch.nn.Module): whose ``forward`` ran.
        locations (torch.Tensor): (x, y) in 0-1 of the map.
        weights (torch.Tensor): of the points; they add up to 1 over L and K.

    Shape:
        - ``locations``: (V, Q, M, L, K, 2), Q = cells of the grid, row-major
        - ``weights``: (V, Q, M, L, K)
    """

    module: torch.nn.Module
    locations: torch.Tensor
    weights: torch.Tensor


@dataclass
class RoutingWeights:
    """How much every expert counted for every token.

    Args:
        module (torch.nn.Module): whose ``forward`` ran.
        weights (torch.Tensor): 0-1.

    Shape:
        - ``weights``: (V, N, K)
    """

    module: torch.nn.Module
    weights: torch.Tensor


def report(record: SamplingPoints | RoutingWeights) -> None:
    """Hand a record to the watcher, if there is one."""
    if torch.compiler.is_compiling():
        return
    watched = _watched.get()
    if watched is not None:
        watched.append(record)


@contextlib.contextmanager
def observe() -> Iterator[list]:
    """Collect what modules report inside the ``with``, in the order of calls."""
    records: list = []
    token = _watched.set(records)
    try:
        yield records
    finally:
        _watched.reset(token)
