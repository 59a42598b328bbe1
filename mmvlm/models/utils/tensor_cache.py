"""Keep small tensors, such as masks, from one call to the next."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def cache_tensors(maxsize: int) -> Callable:
    """Decorate a function of hashable arguments whose tensors are made once.

    What is kept serves training, inference and the counting of operations in one
    process: tensors are made outside of inference mode, and those of a call under
    fake tensors or a ``meta`` default device, which hold no values, are not kept.

    Args:
        maxsize (int): results that are kept, the last used ones.

    Returns:
        Callable: the decorator.
    """

    def decorate(make: Callable) -> Callable:
        kept = functools.lru_cache(maxsize)(torch.inference_mode(False)(make))

        @functools.wraps(make)
        def call(*args: Any) -> Any:
            probe = torch.empty(0)
            plain = type(probe) is torch.Tensor and not probe.is_meta
            return (kept if plain else make)(*args)

        return call

    return decorate
