"""States of tokens in replies, from a pass over prompts and replies together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from mmvlm.models.language_models.generation_steps import Generation
from mmvlm.structures import IGNORE_INDEX, TEXT_STREAM, TokenStream, VLMBatch


def has_beams(options: Mapping[str, Any]) -> bool:
    """Whether replies are searched for with several beams."""
    return options.get("num_beams") not in (None, 1)


def states_read(
    model: Any,
    head: Any,
    ids: Sequence[int],
    batch: VLMBatch,
    replies: Sequence[Generation],
    *,
    beams: bool,
) -> list[torch.Tensor]:
    """Return the states that a head reads of replies: per sample (K, Dl).

    Generation gives the states from which tokens are chosen, step by step. The state
    of a token itself comes one step later, if there is one, and beams change their
    past; both take a second pass.

    Args:
        model (VisionLanguageModel): gives ``hidden_states``.
        head (Head): its ``position`` says which states.
        ids (Sequence[int]): tokens that it reads.
        batch (VLMBatch): prompts.
        replies (Sequence[Generation]): one per sample.
        beams (bool): whether several beams were searched.
    """
    if ids and (beams or head.position == "at"):
        return second_pass(model.hidden_states, batch, replies, ids, head.position)
    return [reply.states_of(ids) for reply in replies]


def second_pass(
    hidden_states: Callable[[VLMBatch, torch.Tensor], torch.Tensor],
    batch: VLMBatch,
    replies: Sequence[Generation],
    ids: Sequence[int],
    position: str,
) -> list[torch.Tensor]:
    """Return states of tokens in replies as training would give them.

    Args:
        hidden_states (Callable): batch and rows to their states.
        batch (VLMBatch): prompts.
        replies (Sequence[Generation]): one per sample.
        ids (Sequence[int]): tokens that are read.
        position (str): ``before`` or ``at``; see :class:`Head`.

    Returns:
        list[torch.Tensor]: per sample (K, Dl), K of its tokens are read.
    """
    counts, rows, start = [], [], 0
    for length, reply in zip(batch.text.seq_lens, replies, strict=True):
        said = [n for n, token in enumerate(reply.tolist()) if token in set(ids)]
        first = start + length - (position == "before")
        rows += [first + number for number in said]
        counts.append(len(said))
        start += length + len(reply)
    if not rows:
        return [reply.states[:0] for reply in replies]
    found = torch.tensor(rows, device=batch.text.input_ids.device)
    return list(hidden_states(with_replies(batch, replies), found).split(counts))


def with_replies(batch: VLMBatch, replies: Sequence[Generation]) -> VLMBatch:
    """Return a batch whose samples are prompts with the replies behind them.

    Nothing is trained in it.

    Raises:
        ValueError: for an encoder-decoder, whose replies are a stream of their own.
    """
    if set(batch.streams) != {TEXT_STREAM}:
        raise ValueError(
            "states of an encoder-decoder's replies are read in generation alone: "
            "position='before' and num_beams=1."
        )
    prompts, device = batch.text, batch.text.input_ids.device
    lengths = torch.tensor([len(reply) for reply in replies])
    shift = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(device)
    sizes = list(prompts.seq_lens)
    pairs = zip(prompts.input_ids.split(sizes), replies, strict=True)
    ids = torch.cat([part for own, one in pairs for part in (own, one.ids.to(own))])
    parts = []
    for own, reply in zip(
        prompts.position_ids.split(sizes, dim=-1), replies, strict=True
    ):
        steps = torch.arange(1, len(reply) + 1, device=device)
        parts += [own, (own.max() + steps).expand(*own.shape[:-1], -1)]
    nothing = prompts.target_rows[:0]
    stream = TokenStream(
        input_ids=ids,
        position_ids=torch.cat(parts, dim=-1),
        labels=torch.full_like(ids, IGNORE_INDEX),
        cu_seqlens=prompts.cu_seqlens + shift.to(prompts.cu_seqlens),
        target_rows=nothing,
        targets=nothing,
        seq_lens=tuple(
            size + len(reply) for size, reply in zip(sizes, replies, strict=True)
        ),
    )
    ends = prompts.cu_seqlens[1:].long()
    inputs = {}
    for kind, own in batch.inputs.items():
        index = own.slot_index
        if index is not None:
            index = index + shift[torch.bucketize(index, ends, right=True)]
        inputs[kind] = replace(own, slot_index=index)
    return VLMBatch({TEXT_STREAM: stream}, inputs, sample_ids=batch.sample_ids)
