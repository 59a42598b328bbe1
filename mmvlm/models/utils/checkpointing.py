"""Activation checkpointing of transformer blocks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from .token_context import current_layout, use_layout


class _CheckpointedForward:
    """A block's ``forward`` that recomputes in backward, wherever a graph is kept.

    A frozen block is in eval mode and still holds activations when a connector
    before it learns, so the mode does not count.

    Kept as an instance attribute of the block: parameter names, the module tree
    and sharded wrappers stay as they are, and arguments that transformers'
    own checkpointing drops in some versions are passed on. What adapters put around
    the block is recomputed with it, and sees the same token layout again.
    """

    checkpointed = True

    def __init__(self, block: torch.nn.Module) -> None:
        self.block, self.inner = block, block.__dict__.get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plain = self.inner or type(self.block).forward.__get__(self.block)
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        options: dict[str, Any] = {}
        if (layout := current_layout()) is not None:
            options["context_fn"] = lambda: (nullcontext(), use_layout(layout))
        # ZeRO 3 empties frozen weights, so that shapes differ when they are compared.
        options.update(use_reentrant=False, determinism_check="none")
        return checkpoint(plain, *args, **options, **kwargs)


def is_checkpointed(block: torch.nn.Module) -> bool:
    """Whether :func:`checkpoint_blocks` chose this block."""
    return getattr(block.__dict__.get("forward"), "checkpointed", False)


def checkpoint_blocks(blocks: Iterable[torch.nn.Module], every: int | str) -> int:
    """Checkpoint every ``every``-th block; return how many.

    Args:
        blocks (Iterable[torch.nn.Module]): in order.
        every (int | str): ``'off'`` (or 0), ``'all'`` (or 1), or k.

    Raises:
        ValueError: for another value.
    """
    every = {"off": 0, "all": 1, False: 0, True: 1}.get(every, every)
    if not isinstance(every, int) or every < 0:
        raise ValueError(
            f"gradient_checkpointing={every!r}: expected 'off', 'all' or an integer k."
        )
    count = 0
    for index, block in enumerate(blocks):
        if isinstance(block.__dict__.get("forward"), _CheckpointedForward):
            inner = block.__dict__.pop("forward").inner
            if inner is not None:
                block.forward = inner
        if every and index % every == every - 1:
            block.forward = _CheckpointedForward(block)
            count += 1
    return count
