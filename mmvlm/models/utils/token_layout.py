"""Tokens as the decoder at work sees them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .token_types import IMAGE, PAD, TEXT


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
        """Whether a token stands for an image: (B, L) bool."""
        return self.types == IMAGE

    def image_rows(self) -> torch.Tensor:
        """Rows of image tokens in the flattened (B * L) tokens."""
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
