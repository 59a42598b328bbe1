"""Prompts that begin alike: their common beginning is run once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .axis_positions import use_positions
from .padding import left_pad


def fingerprints(prompts: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """Return a 64-bit number for every row of every prompt: (n, Dl) to (n,).

    Sums of bits times random numbers are exact wherever a row stands, and cost one
    pass and one copy to the host, where comparing all pairs would cost one for each.
    """
    bits = [prompt.contiguous().view(torch.int16) for prompt in prompts]
    generator = torch.Generator().manual_seed(0)
    size = (bits[0].shape[1],)
    weights = torch.randint(-(2**62), 2**62, size, generator=generator)
    weights = weights.to(bits[0].device)
    sums = torch.cat([(one * weights).sum(1) for one in bits]).cpu().numpy()
    return np.split(sums, np.cumsum([len(prompt) for prompt in prompts])[:-1])


def common_length(first: np.ndarray, second: np.ndarray) -> int:
    """Return how many leading numbers are equal."""
    count = min(len(first), len(second))
    differs = np.flatnonzero(first[:count] != second[:count])
    return int(differs[0]) if len(differs) else count


def group_prompts(prompts: Sequence[torch.Tensor]) -> list[tuple[list[int], int]]:
    """Group prompts so that running each group's common prefix once saves most.

    Questions about one image so come together although all prompts may share a
    system text. Greedy, in the order of the prompts; a beginning counts when it is at
    least half of a prompt. Of a prompt that stands alone, all is prefix but as many
    rows as the longest question has.

    Args:
        prompts (Sequence[torch.Tensor]): embeddings (n, Dl) of every prompt.

    Returns:
        list[tuple[list[int], int]]: numbers of the prompts of a group, and the length
        of their prefix, which leaves at least one row of every prompt outside.
    """
    groups: list[tuple[list[int], int]] = []
    rows = fingerprints(prompts)
    for number, prompt in enumerate(prompts):
        best, gain = None, 0
        for place, (members, prefix) in enumerate(groups):
            common = common_length(rows[members[0]], rows[number])
            shared = min(prefix, len(prompt) - 1, common)
            saved = len(members) * shared - (len(members) - 1) * prefix
            if saved > gain and 2 * shared >= len(prompt):
                best, gain = (place, shared), saved
        if best is None:
            groups.append(([number], len(prompt) - 1))
        else:
            place, shared = best
            groups[place] = ([*groups[place][0], number], shared)
    questions = [len(prompts[n]) - prefix for members, prefix in groups
                 for n in members if len(members) > 1]  # fmt: skip
    longest = max(questions, default=1)
    return [
        (members, prefix if len(members) > 1 else max(1, prefix + 1 - longest))
        for members, prefix in groups
    ]


def run_prefixes(
    decoder: torch.nn.Module,
    prompts: Sequence[torch.Tensor],
    positions: torch.Tensor | None = None,
    cache: Any = None,
) -> dict[str, Any] | None:
    """Run every common prefix once and repeat its cache for the prompts behind it.

    Args:
        decoder (torch.nn.Module): the stack of blocks, in evaluation mode.
        prompts (Sequence[torch.Tensor]): embeddings (n, Dl) of every prompt.
        positions (torch.Tensor | None): see :func:`use_positions`.
        cache (transformers.Cache | None): empty, to be filled; None takes the
            decoder's own.

    Returns:
        dict | None: ``inputs_embeds`` (B, L, Dl), ``attention_mask`` (B, L) and
        ``past_key_values`` for ``generate``; None when that would save nothing.

    Raises:
        ValueError: for a decoder without a cache of keys and values.
    """
    if min(map(len, prompts)) < 2:  # no row to run before the last one
        return None
    groups = group_prompts(prompts)
    heads = len(groups) * max(prefix for _, prefix in groups)
    rest = max(len(prompts[n]) - prefix for members, prefix in groups for n in members)
    if heads + len(prompts) * rest >= len(prompts) * max(map(len, prompts)):
        return None
    owner, suffixes = [0] * len(prompts), list(prompts)
    for group, (members, prefix) in enumerate(groups):
        for number in members:
            owner[number], suffixes[number] = group, prompts[number][prefix:]
    first = [members[0] for members, _ in groups]
    lengths = [prefix for _, prefix in groups]
    pieces = [prompts[n][:m] for n, m in zip(first, lengths, strict=True)]
    embeds, mask = left_pad(torch.cat(pieces), lengths)
    with use_positions(decoder, None if positions is None else positions[:, first]):
        cache = decoder(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
        ).get("past_key_values")
    if not hasattr(cache, "reorder_cache"):
        raise ValueError(
            f"share_prefix: {type(decoder).__name__} keeps no cache that prompts can "
            "share; set share_prefix=False."
        )
    rows = torch.tensor(owner, device=mask.device)
    cache.reorder_cache(rows)
    rest, rest_mask = left_pad(torch.cat(suffixes), list(map(len, suffixes)))
    # Of what the cache holds, ``generate`` reads the length only.
    before = rest.new_zeros(1, 1, 1).expand(len(rest), mask.shape[1], rest.shape[2])
    return dict(
        inputs_embeds=torch.cat([before, rest], 1),
        attention_mask=torch.cat([mask[rows], rest_mask], 1),
        past_key_values=cache,
    )
