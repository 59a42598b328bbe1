"""The last block's MLP on the rows whose output is read.

A decoder's last block mixes tokens in its attention; what follows works on each
token alone. The loss reads supervised rows only, so the MLP of the last block,
two thirds of its arithmetic, is needed for those rows only.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from mmvlm.models.utils.checkpointing import is_checkpointed
from mmvlm.models.utils.even_shapes import on_even_rows

_rows: ContextVar[torch.Tensor | None] = ContextVar("mmvlm_read_rows", default=None)


class LastBlockForward:
    """A last block's ``forward`` that tells its MLP which rows are read.

    Set as an instance attribute of the block, like checkpointing. ``rows`` is
    bound when the block is called, so that a block computed again in backward sees
    the rows of its own forward pass.

    Args:
        block (torch.nn.Module): with a child ``mlp``.
    """

    def __init__(self, block: torch.nn.Module) -> None:
        self.block = block
        self.checkpointed = is_checkpointed(block)
        #: Flat positions (R,) of the hidden states that will be read; None: all.
        self.rows: torch.Tensor | None = None

    @classmethod
    def attach(cls, block: torch.nn.Module) -> LastBlockForward | None:
        """Wrap the block; None when it has no dense MLP of the usual form."""
        mlp = getattr(block, "mlp", None)
        # Experts return their routing beside the output.
        if mlp is None or any("expert" in name for name, _ in mlp.named_modules()):
            return None
        block.forward = wrapper = cls(block)
        mlp.forward = _RowsForward(mlp)
        return wrapper

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block as its class does."""
        run = functools.partial(self._run, self.rows)
        if self.checkpointed and torch.is_grad_enabled():
            options = dict(use_reentrant=False, determinism_check="none")  # see there
            return checkpoint(run, *args, **options, **kwargs)
        return run(*args, **kwargs)

    def _run(self, rows: torch.Tensor | None, *args: Any, **kwargs: Any) -> Any:
        plain = functools.partial(type(self.block).forward, self.block)
        if rows is None or torch.compiler.is_compiling():
            return plain(*args, **kwargs)
        token = _rows.set(rows)
        try:
            return plain(*args, **kwargs)
        finally:
            _rows.reset(token)


class _RowsForward:
    """An MLP's ``forward`` on some rows; zero for the others, which nobody reads."""

    def __init__(self, mlp: torch.nn.Module) -> None:
        self.mlp = mlp

    def __call__(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        plain = functools.partial(type(self.mlp).forward, self.mlp)
        rows = None if torch.compiler.is_compiling() else _rows.get()
        if rows is None:
            return plain(hidden, *args, **kwargs)
        flat = hidden.flatten(0, -2)

        def run(some: torch.Tensor) -> torch.Tensor:
            return plain(some[None], *args, **kwargs)[0]

        out = on_even_rows(run, flat.index_select(0, rows))
        return out.new_zeros(flat.shape).index_copy(0, rows, out).view_as(hidden)
