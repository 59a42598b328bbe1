"""What modules inside a language model may know of its tokens.

The meta-architecture says it once per forward, for the flat batch
(:func:`use_tokens`); the language model lays it out as its decoder sees the
tokens (:func:`use_layout`): flat, right-padded, or left-padded with a cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .token_types import PAD, TEXT

if TYPE_CHECKING:
    from .token_layout import TokenLayout


@dataclass(frozen=True)
class FlatTokens:
    """Types and media of a flat batch.

    Args:
        types (torch.Tensor): (T,) int64, ``TEXT`` or ``IMAGE``.
        seq_lens (tuple[int, ...]): lengths of the samples in T.
        media (torch.Tensor | None): (M, n, Dm) for cross-attention, in the order
            in which their placeholders stand in T.
        media_owner (torch.Tensor | None): (M,) int64, sample of each medium.
    """

    types: torch.Tensor
    seq_lens: tuple[int, ...]
    media: torch.Tensor | None = None
    media_owner: torch.Tensor | None = None

    @classmethod
    def text(cls, seq_lens: Sequence[int], device: Any = None) -> FlatTokens:
        """Return the tokens of samples without images."""
        types = torch.full((sum(seq_lens),), TEXT, device=device)
        return cls(types, tuple(seq_lens))

    def _owner(self) -> torch.Tensor:
        """Sample of every token: (T,)."""
        lengths = torch.tensor(self.seq_lens, device=self.types.device)
        samples = torch.arange(len(lengths), device=self.types.device)
        return samples.repeat_interleave(lengths, output_size=len(self.types))

    def flat(self) -> TokenLayout:
        """Lay out as one row: (1, T)."""
        from .token_layout import TokenLayout

        return TokenLayout(
            self.types[None],
            self._owner()[None],
            len(self.seq_lens),
            self.media,
            self.media_owner,
            segments=self.seq_lens,
        )

    def padded(self, side: str) -> TokenLayout:
        """Lay out as a batch padded on the ``right`` or ``left``: (B, L)."""
        from .token_layout import TokenLayout

        rows, longest = len(self.seq_lens), max(self.seq_lens)
        types = self.types.new_full((rows, longest), PAD)
        for row, piece in enumerate(self.types.split(self.seq_lens)):
            start = longest - len(piece) if side == "left" else 0
            types[row, start : start + len(piece)] = piece
        owner = torch.arange(rows, device=types.device)[:, None].expand_as(types)
        return TokenLayout(types, owner, rows, self.media, self.media_owner)


_tokens: ContextVar[FlatTokens | None] = ContextVar("mmvlm_tokens", default=None)
_layout: ContextVar[TokenLayout | None] = ContextVar("mmvlm_layout", default=None)


@contextlib.contextmanager
def use_tokens(tokens: FlatTokens | None) -> Iterator[None]:
    """Say what the tokens of the coming forward or generation are."""
    before = _tokens.set(tokens)
    try:
        yield
    finally:
        _tokens.reset(before)


def current_tokens(seq_lens: Sequence[int], device: Any) -> FlatTokens:
    """Return what :func:`use_tokens` said, or plain text when it was not used.

    Raises:
        ValueError: when it was said of other samples.
    """
    tokens = _tokens.get()
    if tokens is None:
        return FlatTokens.text(seq_lens, device)
    if tokens.seq_lens != tuple(seq_lens):
        raise ValueError(
            f"token types are given for samples of {tokens.seq_lens} tokens, but the "
            f"language model got {tuple(seq_lens)}."
        )
    return tokens


@contextlib.contextmanager
def use_layout(layout: TokenLayout | None) -> Iterator[None]:
    """Let the decoder's modules see ``layout`` inside the ``with``."""
    before = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(before)


def replace_layout(layout: TokenLayout) -> None:
    """Change the layout inside a running :func:`use_layout` (generation steps)."""
    _layout.set(layout)


def current_layout() -> TokenLayout | None:
    """Return the layout of the forward at work; None outside of one."""
    return _layout.get()
