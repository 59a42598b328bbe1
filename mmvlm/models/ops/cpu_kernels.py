"""Decoder arithmetic in half precision on CPUs, with less traffic than by default.

Small models on a CPU spend their time moving numbers, not multiplying them. Under
autocast the usual code widens queries, keys, scores and norms to float32 and narrows
them again for the next product. Here each of them is written once, in the precision
that its reader takes; sums are still taken in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from mmvlm.models.utils.even_shapes import POSITIONS, ROWS, round_up
from mmvlm.utils.precision import narrow_dtype


class _RMSNorm(torch.autograd.Function):
    """Root mean square norm with few passes over memory."""

    @staticmethod
    def forward(ctx, x, weight, epsilon, dtype):
        wide, ctx.dtypes = x.float(), (x.dtype, weight.dtype)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        factor = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        scaled, weight = wide * factor, weight.float()
        ctx.save_for_backward(scaled, factor, weight)
        return (scaled * weight).to(dtype)

    @staticmethod
    def backward(ctx, grad):
        scaled, factor, weight = ctx.saved_tensors
        grad = grad.to(scaled.dtype)
        product = grad * scaled
        shared = (product @ weight)[..., None].div_(-scaled.shape[-1])
        to_input = (grad * weight).addcmul_(scaled, shared).mul_(factor)
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = product.flatten(0, -2).sum(0).to(ctx.dtypes[1])
        return to_input.to(ctx.dtypes[0]), to_weight, None, None


class NarrowNorm:
    """A norm's ``forward`` that ends in the precision of the products behind it.

    Set as an instance attribute of a Llama-like RMSNorm. Other devices, and runs
    without autocast, get the module's own arithmetic.

    Args:
        norm (torch.nn.Module): with ``weight`` and ``variance_epsilon``.
    """

    def __init__(self, norm: torch.nn.Module) -> None:
        self.norm = norm

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalise (..., D)."""
        norm, dtype = self.norm, narrow_dtype(hidden)
        if dtype is None or not {hidden.dtype, norm.weight.dtype} <= {
            torch.float32,
            dtype,
        }:
            return type(norm).forward(norm, hidden)
        return _RMSNorm.apply(hidden, norm.weight, norm.variance_epsilon, dtype)


class _Rotation(torch.autograd.Function):
    """Rotary positions in three passes; both halves of a head turn together."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return torch.addcmul(x * cos, _swap_halves(x), sin)

    @staticmethod
    def backward(ctx, grad):
        cos, sin = ctx.saved_tensors
        grad = grad.contiguous()
        return (grad * cos).addcmul_(_swap_halves(grad), sin, value=-1), None, None


def _swap_halves(x: torch.Tensor) -> torch.Tensor:
    return torch.cat(x.chunk(2, -1)[::-1], -1)


class _Gather(torch.autograd.Function):
    """Rows by an index whose gradient is a gathering too, by another index."""

    @staticmethod
    def forward(ctx, x, index, inverse):
        ctx.save_for_backward(inverse)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


@dataclass
class RaggedRows:
    """Samples one after the other for products, as a padded batch for attention.

    A filler row stands behind the samples; what pads the batch is read from it, and it
    from there. Nothing that counts reads either, so no gradient reaches them.

    Args:
        shape (tuple[int, int]): samples B and padded length L.
        to_batch (torch.Tensor): (B * L,), a row for each place of the batch.
        to_rows (torch.Tensor): (T',), a place of the batch for each row.
    """

    shape: tuple[int, int]
    to_batch: torch.Tensor
    to_rows: torch.Tensor

    @classmethod
    def of(cls, seq_lens: Sequence[int]) -> RaggedRows | None:
        """Lay samples out; None when a padded batch has no more rows."""
        total, longest = sum(seq_lens), round_up(max(seq_lens), POSITIONS)
        count = round_up(total + 1, ROWS)
        if count >= len(seq_lens) * longest:
            return None
        places = torch.arange(len(seq_lens) * longest).view(-1, longest)
        real = torch.arange(longest) < torch.tensor(seq_lens)[:, None]
        to_batch = torch.full_like(places, total)
        to_batch[real] = torch.arange(total)
        to_rows = places[~real][:1].repeat(count)
        to_rows[:total] = places[real]
        return cls((len(seq_lens), longest), to_batch.flatten(), to_rows)

    def decoder_inputs(
        self, embeds: torch.Tensor, position_ids: torch.Tensor
    ) -> dict[str, Any]:
        """Return what a decoder takes for rows (T, Dl) and positions (T,)."""
        missing = len(self.to_rows) - len(embeds)
        batch, longest = self.shape
        return dict(
            inputs_embeds=F.pad(embeds, (0, 0, 0, missing))[None],
            position_ids=F.pad(position_ids, (0, missing))[None],
            # What pads the batch lies behind all that counts: causality is enough.
            attention_mask=embeds.new_zeros(1, 1, 1, 1),
            segment_lengths=(longest,) * batch,
            ragged_rows=self,
        )

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        """Pad: (1, T', M, D) to (B, L, M, D)."""
        out = _Gather.apply(rows[0], self.to_batch, self.to_rows)
        return out.unflatten(0, self.shape)

    def rows(self, batch: torch.Tensor) -> torch.Tensor:
        """Take padding away: (B, L, M, D) to (1, T', M, D)."""
        return _Gather.apply(batch.flatten(0, 1), self.to_rows, self.to_batch)[None]


class NarrowAttention:
    """A Llama attention's ``forward`` in the precision of its products.

    Set as an instance attribute of the module. Other devices, runs without autocast
    and generation with a cache get the module's own arithmetic.

    Args:
        attention (torch.nn.Module): transformers' ``LlamaAttention``.
    """

    def __init__(self, attention: torch.nn.Module) -> None:
        self.attention = attention

    def __call__(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        *,
        ragged_rows: RaggedRows | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend: (B, T, Dl) to (B, T, Dl); with ``ragged_rows`` (1, T', Dl)."""
        module = self.attention
        caches = (kwargs.get("past_key_values"), kwargs.get("past_key_value"))
        if narrow_dtype(hidden_states) is None or any(c is not None for c in caches):
            return type(module).forward(
                module, hidden_states, position_embeddings, attention_mask, **kwargs
            )
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        query, key, value = (
            project(hidden_states).unflatten(-1, (-1, module.head_dim))
            for project in (module.q_proj, module.k_proj, module.v_proj)
        )
        cos, sin = _spread(position_embeddings, query.shape[2])
        query = _Rotation.apply(query, cos, sin)
        heads = key.shape[2]
        key = _Rotation.apply(key, cos[:, :, :heads], sin[:, :, :heads])
        states = [query, key, value]
        if ragged_rows is not None:
            states = map(ragged_rows.batch, states)
        out, weights = ALL_ATTENTION_FUNCTIONS[module.config._attn_implementation](
            module,
            *(state.transpose(1, 2) for state in states),
            attention_mask,
            dropout=module.attention_dropout if module.training else 0.0,
            scaling=module.scaling,
            **kwargs,
        )
        if ragged_rows is not None:
            out = ragged_rows.rows(out)
        return module.o_proj(out.flatten(2)), weights


def _spread(
    tables: tuple[torch.Tensor, torch.Tensor], heads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write (B, T, D) tables out for every head, once for all layers of a step.

    The sines take the signs of the halves that they multiply.
    """
    cos, sin = tables
    known = getattr(cos, "_mmvlm_spread", None)
    if known is None or known[0].shape[2] != heads:
        first, second = sin.chunk(2, -1)
        signed = torch.cat([-first, second], -1)
        known = tuple(
            table[:, :, None].expand(-1, -1, heads, -1).contiguous()
            for table in (cos, signed)
        )
        cos._mmvlm_spread = known
    return known


def narrow_tables(module: torch.nn.Module, args: Any, tables: Any) -> Any:
    """Forward hook of rotary embeddings: cosines and sines as queries are."""
    dtype = narrow_dtype(tables[0])
    return tables if dtype is None else tuple(table.to(dtype) for table in tables)


def attach_narrow(decoder: torch.nn.Module) -> int:
    """Give Llama-like norms, attention and rotary tables these forwards.

    Returns:
        int: attention layers that got one, and so take :class:`RaggedRows`.
    """
    count = 0
    for name, module in decoder.named_modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            module.forward = NarrowNorm(module)
        elif kind == "LlamaAttention":
            module.forward = NarrowAttention(module)
            count += 1
        elif name == "rotary_emb" and kind == "LlamaRotaryEmbedding":
            module.register_forward_hook(narrow_tables)
    return count
