"""Token cross entropy on supervised rows only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from .even_shapes import on_even_rows


def _chunk_loss(head, hidden, targets) -> torch.Tensor:
    logits = on_even_rows(head, hidden)
    return cross_entropy(logits.float(), targets, reduction="sum")


def summed_token_loss(
    head: Callable[[torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    targets: torch.Tensor,
    vocab_size: int,
    max_logits: int = 2**25,
) -> torch.Tensor:
    """Sum of the cross entropies of rows, in float32.

    When rows x vocabulary exceeds ``max_logits``, rows go in chunks whose logits
    are computed again in backward, so that no more than one chunk is held.

    Args:
        head (Callable): rows (R, Dl) to logits (R, vocab).
        hidden (torch.Tensor): rows that predict a trained token.
        targets (torch.Tensor): those tokens.
        vocab_size (int): to size the chunks.
        max_logits (int): elements of logits held at once; 2**25 is 128 MiB.

    Shape:
        - ``hidden``: (R, Dl); ``targets``: (R,), R may be 0
        - output: (), float32, attached to the graph also when R is 0
    """
    if len(targets) == 0:
        # One row times 0 keeps every parameter in the graph.
        return head(hidden[:1]).float().sum() * 0 if len(hidden) else hidden.sum() * 0
    rows = max(1, max_logits // vocab_size)
    if len(targets) <= rows:
        return _chunk_loss(head, hidden, targets)
    total = hidden.new_zeros((), dtype=torch.float32)
    for part, goal in zip(hidden.split(rows), targets.split(rows), strict=True):
        if torch.is_grad_enabled():
            loss = checkpoint(_chunk_loss, head, part, goal, use_reentrant=False)
        else:
            loss = _chunk_loss(head, part, goal)
        total = total + loss
    return total


def union_of_rows(
    wanted: Sequence[torch.Tensor], total: int
) -> tuple[torch.Tensor | None, list[torch.Tensor] | None]:
    """Return the rows that losses read together, and the place of each among them.

    None for all rows; no places where only the first reads.
    """
    if not sum(map(len, wanted)):
        return None, [one for one in wanted]
    if not any(len(one) for one in wanted[1:]):
        return wanted[0], None
    # Beyond that share, leaving rows out saves little of one block.
    if sum(map(len, wanted)) > total / 3:
        return None, list(wanted)
    rows = torch.cat(list(wanted)).unique()
    return rows, [torch.searchsorted(rows, one) for one in wanted]
