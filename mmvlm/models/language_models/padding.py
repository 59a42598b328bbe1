"""Flat samples as a padded batch, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


def left_pad(
    inputs_embeds: torch.Tensor, seq_lens: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lay flat prompts out as a left-padded batch.

    Shape:
        - ``inputs_embeds``: (T, Dl)
        - output: (B, L, Dl) and the mask (B, L), int64
    """
    longest = max(seq_lens)
    batch = inputs_embeds.new_zeros(len(seq_lens), longest, inputs_embeds.shape[-1])
    mask = torch.zeros(len(seq_lens), longest, dtype=torch.long, device=batch.device)
    for row, piece in enumerate(inputs_embeds.split(list(seq_lens))):
        batch[row, longest - len(piece) :] = piece
        mask[row, longest - len(piece) :] = 1
    return batch, mask


@dataclass(frozen=True)
class RightPadding:
    """Where flat tokens stand in a right-padded batch of B rows of L.

    Shape:
        - ``source``: (B, L), a flat token for every place (any one for padding)
        - ``mask``: (B, L), bool, True at tokens
        - ``places``: (T,), the place of every flat token in (B * L)
    """

    source: torch.Tensor
    mask: torch.Tensor
    places: torch.Tensor

    @classmethod
    def of(
        cls, seq_lens: Sequence[int], device: torch.device, longest: int | None = None
    ) -> RightPadding:
        """Lay samples out in rows of ``longest`` places; None: of the longest."""
        lengths = torch.tensor(seq_lens, device=device)
        longest = longest or max(seq_lens)
        steps = torch.arange(longest, device=device)
        mask = steps[None] < lengths[:, None]
        starts = lengths.cumsum(0) - lengths
        source = (starts[:, None] + steps[None]).clamp(max=sum(seq_lens) - 1)
        places = [steps[:n] + row * longest for row, n in enumerate(seq_lens)]
        return cls(source, mask, torch.cat(places))

    def pad(self, embeds: torch.Tensor) -> torch.Tensor:
        """Pad with zeros: (T, D) to (B, L, D)."""
        return embeds[self.source] * self.mask[..., None]
