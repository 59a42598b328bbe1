"""Causal attention of short sequences in half precision on CPUs."""

from __future__ import annotations

import torch

from mmvlm.models.utils.tensor_cache import cache_tensors


def is_small(value: torch.Tensor) -> bool:
    """Whether :func:`small_attention` is the fastest way; values are (B, M, T, D)."""
    half = value.dtype in (torch.bfloat16, torch.float16)
    return half and value.device.type == "cpu" and value.shape[2] <= 512


def small_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """Causal attention whose scores are held in the precision of ``value``.

    For lengths of a few hundred, where it is faster than PyTorch's flash kernel.

    Shape:
        - ``query``, ``key``, ``value``, output: (B, M, T, D)
    """
    length, dtype = query.shape[2], value.dtype
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (x.flatten(0, 1).to(dtype) for x in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        # Masked by -inf where a query would see what comes after it.
        scores = torch.baddbmm(
            _causal_bias(length, dtype), q, k.transpose(1, 2), alpha=scale
        )
        out = torch.bmm(scores.softmax(-1), v)
    return out.unflatten(0, query.shape[:2])


@cache_tensors(16)
def _causal_bias(length: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((length, length), -torch.inf, dtype=dtype).triu(1)
