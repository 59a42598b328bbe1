"""Positions of several axes while replies are generated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch


def position_table(
    position_ids: torch.Tensor, seq_lens: Sequence[int], num_new: int
) -> torch.Tensor:
    """Return positions of prompts and of the tokens behind them.

    New tokens go on behind the largest position of their prompt, on all axes.

    Shape:
        - ``position_ids``: (A, T), of flat prompts
        - output: (A, B, longest prompt + ``num_new``)
    """
    count = max(seq_lens) + num_new
    rows = []
    for own in position_ids.split(list(seq_lens), 1):
        new = torch.arange(count - own.shape[1], device=own.device) + own.max() + 1
        rows.append(torch.cat([own, new.expand(len(own), -1)], 1))
    return torch.stack(rows, 1)


@contextlib.contextmanager
def use_positions(decoder: torch.nn.Module, table: torch.Tensor | None) -> Iterator:
    """Let a decoder read positions of several axes while replies are generated.

    Args:
        decoder (torch.nn.Module): is called with ``position_ids`` (B, q) that count
            the tokens of every row.
        table (torch.Tensor | None): (A, B, N), the positions of each of them; None
            changes nothing.
    """
    if table is None:
        yield
        return

    def look_up(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        places = kwargs["position_ids"].expand(table.shape[1], -1)
        found = table.gather(2, places.expand(len(table), -1, -1))
        return args, {**kwargs, "position_ids": found}

    hook = decoder.register_forward_pre_hook(look_up, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
