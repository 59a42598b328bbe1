"""What modules inside a language model may know of its tokens.

The meta-architecture says it once per forward, for the flat batch
(:func:`use_tokens`); the language model lays it out as its decoder sees the
tokens (:func:`use_layout`): flat, right-padded, or left-padded with a cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch

#: Types of tokens, as the official systems number them.
PAD, TEXT, IMAGE = 0, 1, 2


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
        """Return the tokens of samples without pictures."""
        types = torch.full((sum(seq_lens),), TEXT, device=device)
        return cls(types, tuple(seq_lens))

    def _owner(self) -> torch.Tensor:
        """Sample of every token: (T,)."""
        lengths = torch.tensor(self.seq_lens, device=self.types.device)
        samples = torch.arange(len(lengths), device=self.types.device)
        return samples.repeat_interleave(lengths, output_size=len(self.types))

    def flat(self) -> TokenLayout:
        """Lay out as one row: (1, T)."""
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
        rows, longest = len(self.seq_lens), max(self.seq_lens)
        types = self.types.new_full((rows, longest), PAD)
        for row, piece in enumerate(self.types.split(self.seq_lens)):
            start = longest - len(piece) if side == "left" else 0
            types[row, start : start + len(piece)] = piece
        owner = torch.arange(rows, device=types.device)[:, None].expand_as(types)
        return TokenLayout(types, owner, rows, self.media, self.media_owner)


@dataclass(frozen=True)
class TokenLayout:
    """Tokens as the decoder at work sees them, B rows of L.

    Args:
        types (torch.Tensor): (B, L) int64: ``PAD``, ``TEXT`` or ``IMAGE``.
        owner (torch.Tensor): (B, L) int64, sample of each token.
        num_samples (int): S.
        media (torch.Tensor | None): (M, n, Dm); see :class:`FlatTokens`.
        media_owner (torch.Tensor | None): (M,).
        segments (tuple[int, ...] | None): lengths, when samples share one row.
        step (int): 0 for a whole sequence or prompt, k for the k-th new token.
        memory (dict): what adapters keep from a prompt for its continuation;
            None when nothing follows.
        cache (dict): what adapters compute once per layout.
    """

    types: torch.Tensor
    owner: torch.Tensor
    num_samples: int
    media: torch.Tensor | None = None
    media_owner: torch.Tensor | None = None
    segments: tuple[int, ...] | None = None
    step: int = 0
    memory: dict | None = None
    cache: dict = field(default_factory=dict)

    def once(self, key: str, compute: Any) -> Any:
        """Return ``compute()``, computed once per layout."""
        if key not in self.cache:
            self.cache[key] = compute()
        return self.cache[key]

    @property
    def is_media(self) -> torch.Tensor:
        """Whether a token stands for a picture: (B, L) bool."""
        return self.types == IMAGE

    def image_rows(self) -> torch.Tensor:
        """Rows of picture tokens in the flattened (B * L) tokens."""
        return self.once("image", lambda: self.is_media.flatten().nonzero()[:, 0])

    def first_rows(self) -> torch.Tensor:
        """Row of each sample's first token in the flattened tokens: (S,)."""

        def compute() -> torch.Tensor:
            rows = torch.arange(self.types.numel(), device=self.types.device)
            real = (self.types != PAD).flatten()
            first = rows.new_full((self.num_samples,), len(rows))
            return first.scatter_reduce(
                0, self.owner.flatten()[real], rows[real], "amin"
            )

        return self.once("first", compute)

    def for_generation(self) -> TokenLayout:
        """Return the layout of a prompt that will be continued."""
        return replace(self, memory={}, cache={})

    def expanded(self, rows: int) -> TokenLayout:
        """Repeat every sample for beams or several replies, as transformers does.

        Raises:
            ValueError: when ``rows`` is no multiple of the samples.
        """
        times, rest = divmod(rows, self.num_samples)
        if rest:
            raise ValueError(f"{rows} rows do not repeat {self.num_samples} samples.")
        if times == 1:
            return self
        types = self.types.repeat_interleave(times, 0)
        owner = torch.arange(rows, device=types.device)[:, None].expand_as(types)
        media, media_owner = self.media, self.media_owner
        if media is not None:
            copies = torch.arange(times, device=types.device)
            of_copy = (media_owner[:, None] * times + copies).flatten()
            order = of_copy.argsort(stable=True)
            media = media.repeat_interleave(times, 0)[order]
            media_owner = of_copy[order]
        return replace(
            self, types=types, owner=owner, num_samples=rows, media=media,
            media_owner=media_owner, cache={},
        )  # fmt: skip

    def next_step(self, step: int) -> TokenLayout:
        """Return the layout of the ``step``-th token behind a prompt: (S, 1)."""
        owner = torch.arange(self.num_samples, device=self.types.device)[:, None]
        return replace(
            self,
            types=torch.full_like(owner, TEXT),
            owner=owner,
            segments=None,
            step=step,
            cache={},
        )


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
