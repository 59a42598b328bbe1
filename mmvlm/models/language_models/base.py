"""The contract of language models."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from mmengine.model import BaseModule

from .generation_steps import Generation
from .new_tokens import NewTokens


class LanguageModel(BaseModule):
    """A decoder over one flat token dimension.

    Samples lie one after the other in T; attention stays inside each.
    """

    #: Tokens that the tokenizer must get for it.
    new_tokens: NewTokens | None = None
    #: Id of the first of them.
    first_new_id: int | None = None

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of the embeddings (Dl)."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Rows of the embedding table."""

    @abstractmethod
    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed ids: (T,) int64 to (T, Dl)."""

    @abstractmethod
    def forward(
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        cu_seqlens: torch.Tensor,
        seq_lens: tuple[int, ...],
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run the decoder up to its final norm.

        Args:
            inputs_embeds (torch.Tensor): samples one after the other.
            position_ids (torch.Tensor): restart with every sample.
            cu_seqlens (torch.Tensor): offsets of the samples.
            seq_lens (tuple[int, ...]): their lengths.
            rows (torch.Tensor | None): positions whose output is wanted; what only
                others need may be left out.

        Shape:
            - ``inputs_embeds``: (T, Dl); ``position_ids``: (T,)
            - ``cu_seqlens``: (B + 1,) int32; ``seq_lens``: B host integers
            - ``rows``: (R,), int64
            - output: (T, Dl), or (R, Dl) with ``rows``

        """

    @abstractmethod
    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Apply the head (with the model's own scaling): (R, Dl) to (R, vocab)."""

    @abstractmethod
    def generate(
        self, inputs_embeds: torch.Tensor, seq_lens: tuple[int, ...], **kwargs: Any
    ) -> list[Generation]:
        """Continue every sample; return B replies (no prompt).

        Args:
            inputs_embeds (torch.Tensor): (T, Dl) flat prompts.
            seq_lens (tuple[int, ...]): their lengths.
            **kwargs: transformers generation arguments.

        """

    @classmethod
    @abstractmethod
    def tiny(cls) -> LanguageModel:
        """Build a random miniature that runs on a CPU in milliseconds."""
