"""Segment attention for transformers' attention registry.

Samples lie one after the other in one token dimension; attention stays inside
each. Any causal LM whose code reads the registry and hands its keyword
arguments down gets it, without a line of that model being copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import dropout as F_dropout
from torch.nn.functional import scaled_dot_product_attention

from mmvlm.models.ops.small_attention import is_small, small_attention
from mmvlm.models.utils.tensor_cache import cache_tensors

#: Names under which transformers finds the function of this module, and the one
#: of FlexAttention.
SEGMENT_ATTENTION = "mmvlm_segment"
FLEX_ATTENTION = "mmvlm_flex"

# Keyword arguments that change nothing in the result, or are honoured below.
_KNOWN_KWARGS = frozenset(
    "segment_lengths cu_seq_lens_q cu_seq_lens_k max_length_q max_length_k "
    "position_ids cache_position position_embeddings use_cache output_attentions "
    "output_hidden_states return_dict use_top_left_mask deterministic "
    "num_items_in_batch output_router_logits past_key_values past_key_value".split()
)
_calls: ContextVar[list | None] = ContextVar("mmvlm_segment_calls", default=None)


def segment_kwargs(cu_seqlens: torch.Tensor, seq_lens: Sequence[int]) -> dict[str, Any]:
    """Return the keyword arguments that a decoder must hand to its attention.

    The names are those of transformers' flash attention, so a decoder on
    ``flash_attention_2`` understands them too; ``segment_lengths`` is ours.
    """
    longest = max(seq_lens)
    return dict(
        cu_seq_lens_q=cu_seqlens,
        cu_seq_lens_k=cu_seqlens,
        max_length_q=longest,
        max_length_k=longest,
        segment_lengths=tuple(seq_lens),
    )


@contextlib.contextmanager
def record_segment_calls() -> Iterator[list]:
    """Collect the modules that ran segment attention inside the ``with``."""
    calls: list = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


def note_segment_call(module: torch.nn.Module) -> None:
    """Tell :func:`record_segment_calls` that a module kept samples apart."""
    if not torch.compiler.is_compiling() and (calls := _calls.get()) is not None:
        calls.append(module)


def refuse_unknown(
    module: torch.nn.Module, kwargs: dict[str, Any], name: str = SEGMENT_ATTENTION
) -> None:
    """Raise for arguments of a model that would be ignored."""
    unknown = [
        name
        for name, value in kwargs.items()
        if value is not None and name not in _KNOWN_KWARGS
    ]
    if unknown:
        raise RuntimeError(
            f"{type(module).__name__} passes {unknown} to its attention, which "
            f"'{name}' does not implement. Set attention='padded' "
            "in the language_model config."
        )


def segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    segment_lengths: tuple[int, ...] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each segment; ordinary attention without segments.

    Grouped queries, sliding window, soft capping and dropout are honoured. What
    else a model asks for through unknown arguments is refused, not ignored.

    Shape:
        - ``query``: (1, M, T, D); ``key``, ``value``: (1, Mkv, T, D); or batches of
          segments of T each
        - output: (1, T, M, D)

    Raises:
        RuntimeError: when the model passes an argument that this function does
            not implement, or segments that do not cover T.
    """
    refuse_unknown(module, kwargs)
    if segment_lengths is None:
        mask, causal = attention_mask, is_causal
        if causal is None:
            causal = (
                mask is None
                and query.shape[2] > 1
                and getattr(module, "is_causal", True)
            )
        out = _dense(query, key, value, mask, bool(causal), scaling, softcap, dropout)
        return out.transpose(1, 2).contiguous(), None
    # Some models (GPT-2) say "not causal" when any mask is there, as ours is.
    if is_causal is False and not getattr(module, "is_causal", False):
        raise RuntimeError(
            f"{type(module).__name__} asks for attention that is not causal, which "
            f"'{SEGMENT_ATTENTION}' does not implement; set attention='padded'."
        )
    note_segment_call(module)
    batched = segment_lengths == (query.shape[2],) * query.shape[0]
    if not batched and (sum(segment_lengths) != query.shape[2] or len(query) != 1):
        raise RuntimeError(
            f"segments {segment_lengths} do not cover queries of shape "
            f"{tuple(query.shape)}."
        )
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        out = _flash_varlen(
            query, key, value, dropout, scaling, sliding_window, softcap, kwargs
        )
        if out is not None:
            return out, None
    limits = (dropout, scaling, sliding_window, softcap)
    if batched:
        mask = _window_mask(query.shape[2], sliding_window, query.device)
        out = _dense(query, key, value, mask, mask is None, scaling, softcap, dropout)
        return out.transpose(1, 2).contiguous(), None
    return _segment_loop(query, key, value, segment_lengths, *limits), None


def _segment_loop(
    query, key, value, lengths, dropout, scaling, window, softcap
) -> torch.Tensor:
    """One causal attention per segment; segments of one length go together."""
    if len(set(lengths)) == 1:
        # Equal lengths are a batch: views only, one call.
        count, length = len(lengths), lengths[0]
        q, k, v = (
            x[0].unflatten(1, (count, length)).transpose(0, 1)
            for x in (query, key, value)
        )
        mask = _window_mask(length, window, query.device)
        out = _dense(q, k, v, mask, mask is None, scaling, softcap, dropout)
        return out.transpose(1, 2).flatten(0, 1).unsqueeze(0)
    outputs = []
    # split, not slices: its backward is one concatenation, whereas every slice
    # would allocate and add a gradient of the whole length.
    for q, k, v in zip(
        query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2),
        strict=True,
    ):  # fmt: skip
        mask = _window_mask(q.shape[2], window, q.device)
        out = _dense(q, k, v, mask, mask is None, scaling, softcap, dropout)
        outputs.append(out.transpose(1, 2))
    return torch.cat(outputs, 1)


@cache_tensors(8)
def _window_mask(length: int, window: int | None, device) -> torch.Tensor | None:
    """Boolean (L, L) mask of the last ``window`` positions; None if not needed."""
    if window is None or length <= window:
        return None
    rows = torch.arange(length, device=device)
    distance = rows[:, None] - rows[None]
    return (distance >= 0) & (distance < window)


def _dense(query, key, value, mask, causal, scaling, softcap, dropout) -> torch.Tensor:
    """Attention of a padded batch: (B, M, T, D) to (B, M, T, D)."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    plain = causal and mask is None and not softcap and not dropout
    if plain and query.shape == key.shape and is_small(value):
        return small_attention(query, key, value, scaling)
    if mask is not None:
        mask = mask[..., : key.shape[2]]
    if softcap is None:
        return scaled_dot_product_attention(
            query, key, value, mask, dropout, causal, scale=scaling
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(-1, -2) * scale
    scores = torch.tanh(scores / softcap) * softcap
    if causal:
        ones = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        mask = ones.tril()
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return F_dropout(weights, dropout, dropout > 0) @ value


def _flash_varlen(
    query, key, value, dropout, scaling, window, softcap, kwargs
) -> torch.Tensor | None:
    """Flash attention over offsets, or None when the package is absent."""
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError:
        return None
    out = flash_attn_varlen_func(
        *(x[0].transpose(0, 1) for x in (query, key, value)),
        cu_seqlens_q=kwargs["cu_seq_lens_q"],
        cu_seqlens_k=kwargs["cu_seq_lens_k"],
        max_seqlen_q=kwargs["max_length_q"],
        max_seqlen_k=kwargs["max_length_k"],
        dropout_p=dropout,
        softmax_scale=scaling,
        causal=True,
        window_size=(-1, -1) if window is None else (window - 1, 0),
        softcap=softcap or 0.0,
    )
    return out.unsqueeze(0)


@lru_cache(maxsize=1)
def register_segment_attention() -> str:
    """Make segment attention known to transformers; return its name."""
    return register_attention(SEGMENT_ATTENTION, segment_attention)


def register_attention(name: str, function: Callable) -> str:
    """Make an attention function known to transformers; return its name."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if hasattr(ALL_ATTENTION_FUNCTIONS, "register"):
        ALL_ATTENTION_FUNCTIONS.register(name, function)
    else:  # transformers 4.48: a plain dict
        ALL_ATTENTION_FUNCTIONS[name] = function
    try:
        from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
    except ImportError:  # before 4.53 models build their own masks
        return name
    # Generation has no segments and needs the mask of padded prompts.
    AttentionMaskInterface.register(name, sdpa_mask)
    return name
