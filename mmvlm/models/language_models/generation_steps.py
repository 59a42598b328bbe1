"""What generation gives, and a hand in each of its steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Generation:
    """The continuation of one prompt.

    Args:
        ids (torch.Tensor): (N,), new tokens up to and with the stop token.
        finish (str): why it ended: ``stop_id``, ``stop_string`` or ``length``.
        positions (torch.Tensor): (C,), places in ``ids`` of tokens that were asked for.
        states (torch.Tensor): (C, Dl), the states after the final norm from which these
            tokens were chosen: what a forward pass over prompt and reply gives one
            place before each, where LISA's mask head reads ``[SEG]``.
    """

    ids: torch.Tensor
    finish: str
    positions: torch.Tensor
    states: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def states_of(self, ids: Sequence[int]) -> torch.Tensor:
        """Return the caught states of some tokens, in order: (K, Dl)."""
        if not len(self.positions):
            return self.states[:0]
        return self.states[
            torch.isin(self.ids[self.positions], self.ids.new_tensor(ids))
        ]

    def tolist(self) -> list[int]:
        """Return the ids as integers."""
        return self.ids.tolist()


@dataclass
class GenerationStep:
    """One step of a batch of B replies, before its tokens are chosen.

    Args:
        ids (torch.Tensor): (B, n), tokens chosen so far; rows that have ended go on
            with padding.
        states (torch.Tensor): (B, Dl), after the final norm.
        logits (torch.Tensor): (B, vocab), to be changed in place.
        prompt_ends (Sequence[int]): last token of every prompt, where it is known.
    """

    ids: torch.Tensor
    states: torch.Tensor
    logits: torch.Tensor
    prompt_ends: Sequence[int] = ()
    #: Row to the embedding (Dl,) that it reads next, in place of its token's own.
    fed: dict[int, torch.Tensor] = field(default_factory=dict)

    def allow(self, row: int, ids: Sequence[int]) -> None:
        """Let a row choose among these tokens only; one token is forced.

        Raises:
            ValueError: for no token at all.
        """
        if not len(ids):
            raise ValueError(f"row {row}: a step must be left at least one token.")
        kept = self.logits[row, list(ids)].clone()
        self.logits[row] = -torch.inf
        # What is forced may have been ruled out before.
        kept = kept.masked_fill(kept.isneginf(), torch.finfo(kept.dtype).min)
        self.logits[row, list(ids)] = kept

    def forbid(self, row: int, ids: Sequence[int]) -> None:
        """Keep a row from choosing these tokens."""
        self.logits[row, list(ids)] = -torch.inf

    def feed(self, row: int, embedding: torch.Tensor) -> None:
        """Let a row read an embedding (Dl,) where the token of this step stands.

        The token is chosen and kept as in any step: say which by :meth:`allow`.
        """
        self.fed[row] = embedding


class StepRecorder:
    """A logits processor of transformers' ``generate`` that hands steps out.

    Args:
        decoder (torch.nn.Module): gives the states after the final norm; embeddings
            are fed where its table gives those of tokens.
        catch (Sequence[int]): tokens whose states are kept.
        on_step (Callable | None): gets every :class:`GenerationStep`.
        start (int): tokens that open every reply and are not part of it.
    """

    def __init__(
        self,
        decoder: torch.nn.Module,
        catch: Sequence[int] = (),
        on_step: Callable[[GenerationStep], Any] | None = None,
        start: int = 0,
    ) -> None:
        self.decoder = decoder
        if hasattr(decoder, "get_input_embeddings"):
            self.embeddings = decoder.get_input_embeddings()
        else:  # Kosmos-2's is a plain module
            self.embeddings = decoder.embed_tokens
        self.catch, self.on_step, self.start = frozenset(catch), on_step, start
        self._last: torch.Tensor | None = None
        self._fed: dict[int, torch.Tensor] = {}
        self._states: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Let ``on_step`` change the logits of a step."""
        if self.catch:
            self._states.append(self._last)
        if self.on_step is None:
            return scores
        step = GenerationStep(input_ids[:, self.start :], self._last, scores.clone())
        self.on_step(step)
        self._fed = step.fed
        return step.logits

    def caught(self, row: int, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return positions (C,) and states (C, Dl) of the tokens asked for."""
        places = [n for n, token in enumerate(ids.tolist()) if token in self.catch]
        positions = torch.tensor(places, dtype=torch.int64, device=ids.device)
        if not places:
            return positions, self._last.new_zeros(0, self._last.shape[-1])
        return positions, torch.stack([self._states[n][row] for n in places])

    def note_states(self, module: Any, args: Any, output: Any) -> None:
        """Keep the last states of a decoder's call: a forward hook."""
        self._last = output[0][:, -1]

    def feed(self, module: Any, args: tuple, output: torch.Tensor) -> Any:
        """Put embeddings in the place of tokens' own: a forward hook."""
        if not self._fed:
            return None
        output = output.clone()
        for row, embedding in self._fed.items():
            output[row, -1] = embedding.to(output)
        self._fed = {}
        return output


@contextlib.contextmanager
def watching(recorder: StepRecorder | None) -> Iterator[list]:
    """Let a recorder listen to its model; give the logits processors for that."""
    if recorder is None:
        yield []
        return
    hooks = [
        recorder.decoder.register_forward_hook(recorder.note_states),
        recorder.embeddings.register_forward_hook(recorder.feed),
    ]
    try:
        yield [recorder]
    finally:
        for hook in hooks:
            hook.remove()
