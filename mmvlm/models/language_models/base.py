"""The contract of language models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from mmengine.model import BaseModule

if TYPE_CHECKING:
    from mmvlm.structures import TokenStream

    from .generation_steps import Generation
    from .new_tokens import NewTokens


@dataclass
class GenerationOptions:
    """What ``generation`` of a config says besides transformers' ``GenerationConfig``.

    Args:
        stop_ids (Sequence[int] | None): tokens that end a reply; None takes the
            template's and the tokenizer's.
        stop_strings (Sequence[str]): texts that end a reply, on top of the template's.
        share_prefix (bool): run what several prompts begin with once.
        catch (Sequence[int]): tokens whose states are returned.
    """

    stop_ids: Sequence[int] | None = None
    stop_strings: Sequence[str] = ()
    share_prefix: bool = False
    catch: Sequence[int] = ()


class LanguageModel(BaseModule):
    """A decoder over one flat token dimension, with or without an encoder before it.

    Samples lie one after the other in T; attention stays inside each.
    """

    #: Tokens that the tokenizer must get for it.
    new_tokens: NewTokens | None = None
    #: Id of the first of them.
    first_new_id: int | None = None
    #: Whether prompts are read by an encoder; what is trained and continued is then a
    #: stream of its own.
    is_encoder_decoder: bool = False

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
            position_ids (torch.Tensor): restart with every sample; on several axes
                for decoders with such positions (Qwen2-VL).
            cu_seqlens (torch.Tensor): offsets of the samples.
            seq_lens (tuple[int, ...]): their lengths.
            rows (torch.Tensor | None): positions whose output is wanted; what only
                others need may be left out.

        Shape:
            - ``inputs_embeds``: (T, Dl); ``position_ids``: (T,) or (3, T)
            - ``cu_seqlens``: (B + 1,) int32; ``seq_lens``: B host integers
            - ``rows``: (R,), int64
            - output: (T, Dl), or (R, Dl) with ``rows``
        """

    def hidden_states(
        self,
        inputs_embeds: torch.Tensor,
        prompt: TokenStream,
        text: TokenStream,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run the model over the streams of a batch, up to its final norm.

        Args:
            inputs_embeds (torch.Tensor): the prompt, its slots filled.
            prompt (TokenStream): the stream that was embedded.
            text (TokenStream): the stream that is trained and continued: the prompt
                itself without an encoder.
            rows (torch.Tensor | None): positions of ``text`` whose output is wanted.

        Shape:
            - ``inputs_embeds``: (Tp, Dl), Tp tokens of ``prompt``
            - output: (T, Dl), T tokens of ``text``, or (R, Dl) with ``rows``
        """
        return self(
            inputs_embeds, text.position_ids, text.cu_seqlens, text.seq_lens, rows
        )

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
            **kwargs: see :func:`generate_from_embeds`; ``position_ids`` of the prompts
                where they have several axes.
        """

    def grow_tables(self, new_tokens: dict | None, number: int = 0) -> None:
        """Give the tables the rows of new tokens, if there are any.

        Args:
            new_tokens (dict | None): keywords of :class:`NewTokens`.
            number (int): in their place, rows without names.
        """
        if new_tokens is None and not number:
            return
        from .new_tokens import NewTokens

        self.new_tokens = NewTokens.read(new_tokens, number)
        self.first_new_id = self.new_tokens.grow(self.model)

    def train_new_tokens(self, rule: Any = None) -> None:
        """Let the tables learn as ``new_tokens`` says."""
        if self.new_tokens is not None:
            self.new_tokens.train_tables(self.model, rule)

    def complete_state(self, state: dict[str, torch.Tensor], prefix: str) -> list[str]:
        """Add the start of what a checkpoint was made without, such as new rows.

        Args:
            state (dict): changed in place, if it holds a language model.
            prefix (str): of this module's keys in it.

        Returns:
            list[str]: what was added.
        """
        new, first = self.new_tokens, self.first_new_id
        if new is None or not new.complete(self.model, first, state, f"{prefix}model."):
            return []
        return ["new_tokens"]

    @classmethod
    @abstractmethod
    def tiny(cls) -> LanguageModel:
        """Build a random miniature that runs on a CPU in milliseconds."""
