"""Logits of half-precision models in float32."""

from __future__ import annotations

import copy
from typing import Any

import torch


class Float32Head:
    """Within it a model's logits are computed in float32, autocast or not.

    The wide copy of the head lives as long: benchmarks, each with its own, hold none
    while others are answered.

    Args:
        model (torch.nn.Module): of transformers, with a head of floating-point weights.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._head = model.get_output_embeddings()
        self._wide: torch.nn.Module | None = None

    def __enter__(self) -> None:
        # Where memory is short, no copy in half precision may lie beside the wide one.
        wide = {
            id(one): torch.nn.Parameter(one.detach().float(), requires_grad=False)
            for one in self._head.parameters()
            if one.is_floating_point()
        }
        self._wide = copy.deepcopy(self._head, wide).float()
        self._head.forward = self._forward

    def __exit__(self, *_: Any) -> None:
        del self._head.forward
        self._wide = None

    def _forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden_states.device.type, enabled=False):
            return self._wide(hidden_states.float())
