"""FlexAttention over segments: one fused kernel instead of a call per sample.

Its block mask says which tokens see each other, so the flat token dimension needs
neither padding nor a loop. PyTorch computes it on CPUs too, but without a backward.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from mmvlm.models.utils.tensor_cache import cache_tensors

from .attention import (
    FLEX_ATTENTION,
    note_segment_call,
    refuse_unknown,
    register_attention,
    segment_attention,
)


def flex_segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    segment_lengths: tuple[int, ...] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each segment; see :func:`segment_attention`.

    Without segments (generation) it is :func:`segment_attention`.

    Shape:
        - ``query``: (1, M, T, D); ``key``, ``value``: (1, Mkv, T, D)
        - output: (1, T, M, D)

    Raises:
        RuntimeError: for attention dropout, for training on a CPU, and for
            arguments that this function does not implement.
    """
    if segment_lengths is None:
        limits = dict(sliding_window=sliding_window, softcap=softcap)
        kwargs.update(dropout=dropout, scaling=scaling, is_causal=is_causal, **limits)
        return segment_attention(module, query, key, value, attention_mask, **kwargs)
    refuse_unknown(module, kwargs, FLEX_ATTENTION)
    if dropout:
        raise RuntimeError(
            "attention='flex' has no dropout of attention weights; set the language "
            "model's attention_dropout to 0, or attention='segment'."
        )
    if query.device.type == "cpu" and torch.is_grad_enabled() and query.requires_grad:
        raise RuntimeError(
            "FlexAttention has no backward on CPUs; set language_model.attention="
            "'segment' to train here."
        )
    note_segment_call(module)
    if sum(segment_lengths) != query.shape[2] or query.shape[0] != 1:
        raise RuntimeError(
            f"segments {segment_lengths} do not cover queries of shape "
            f"{tuple(query.shape)}."
        )
    out = _kernel(query.device.type)(
        query,
        key,
        value,
        score_mod=None if softcap is None else _soft_cap(softcap),
        block_mask=_block_mask(tuple(segment_lengths), sliding_window, query.device),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2).contiguous(), None


@cache_tensors(8)
def _block_mask(lengths: tuple[int, ...], window: int | None, device: Any) -> Any:
    """Build the block mask of a batch once; all layers share it."""
    from torch.nn.attention.flex_attention import create_block_mask

    total = sum(lengths)
    owner = torch.arange(len(lengths), device=device).repeat_interleave(
        torch.tensor(lengths, device=device), output_size=total
    )

    def sees(batch: Any, head: Any, row: Any, column: Any) -> Any:
        """Whether the token of a row sees that of a column."""
        seen = (owner[row] == owner[column]) & (row >= column)
        return seen if window is None else seen & (row - column < window)

    return create_block_mask(sees, None, None, total, total, device=device)


@lru_cache(maxsize=8)
def _soft_cap(cap: float) -> Callable:
    def score(value: Any, batch: Any, head: Any, row: Any, column: Any) -> Any:
        """Bound a score."""
        return torch.tanh(value / cap) * cap

    return score


@lru_cache(maxsize=2)
def _kernel(device: str) -> Callable:
    """Return the fused kernel; on CPUs, where it is for checks only, the plain one."""
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention if device == "cpu" else torch.compile(flex_attention)


@lru_cache(maxsize=1)
def register_flex_attention() -> str:
    """Make this attention known to transformers; return its name."""
    return register_attention(FLEX_ATTENTION, flex_segment_attention)
