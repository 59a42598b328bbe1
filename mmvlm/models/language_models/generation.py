"""Batched generation from flat prompt embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .generation_steps import Generation, GenerationStep, StepRecorder

#: Fields of ``GenerationConfig`` that would change what a caller gets, and what to do.
_REFUSED = {
    "num_return_sequences": "every prompt gets one reply; give a prompt several times",
    "return_dict_in_generate": "only ids are returned",
    "output_scores": "only ids are returned",
    "output_logits": "only ids are returned",
    "output_attentions": "only ids are returned",
    "output_hidden_states": "only ids are returned",
    "max_length": "prompts are no ids here; use max_new_tokens",
    "eos_token_id": "use stop_ids",
    "pad_token_id": "padding is cut off; leave it out",
}


class _StopTexts:
    """Say per row whether its new text holds one of the stop strings."""

    def __init__(self, decode: Callable, stops: Sequence[str], window: int = 32):
        self.decode, self.stops, self.window = decode, tuple(stops), window
        #: Row to the number of new tokens at which it ended so.
        self.ends: dict[int, int] = {}

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        # With inputs_embeds, transformers passes the new tokens only.
        tails = [self.decode(row) for row in input_ids[:, -self.window :].tolist()]
        done = [any(stop in tail for stop in self.stops) for tail in tails]
        for row in (row for row, ended in enumerate(done) if ended):
            self.ends.setdefault(row, input_ids.shape[1])
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)


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


def generate_from_embeds(
    model: torch.nn.Module,
    inputs_embeds: torch.Tensor,
    seq_lens: Sequence[int],
    *,
    max_new_tokens: int = 128,
    do_sample: bool = False,
    stop_ids: Sequence[int] | None = None,
    stop_strings: Sequence[str] = (),
    decode: Callable[[list[int]], str] | None = None,
    streamer: Any = None,
    decoder: torch.nn.Module | None = None,
    catch: Sequence[int] = (),
    on_step: Callable[[GenerationStep], Any] | None = None,
    **kwargs: Any,
) -> list[Generation]:
    """Continue prompts with a transformers model; greedy unless asked otherwise.

    Args:
        model (torch.nn.Module): a transformers model that can generate.
        inputs_embeds (torch.Tensor): (T, Dl), prompts one after the other.
        seq_lens (Sequence[int]): their lengths.
        max_new_tokens (int): limit per sample.
        do_sample (bool): sample instead of taking the best token.
        stop_ids (Sequence[int] | None): tokens that end a reply; None takes the
            model's own.
        stop_strings (Sequence[str]): texts that end a reply; need ``decode``.
        decode (Callable | None): ids to text, special tokens kept.
        streamer (Any): a transformers streamer; one sample only.
        decoder (torch.nn.Module | None): the stack of blocks with the final norm;
            ``catch`` and ``on_step`` need it.
        catch (Sequence[int]): tokens whose states are returned.
        on_step (Callable | None): called with the :class:`GenerationStep` of every
            step, to allow or forbid tokens and feed embeddings.
        **kwargs: other fields of transformers' ``GenerationConfig``.

    Returns:
        list[Generation]: one per sample.

    Raises:
        ValueError: for options that do not go together, or that would break what is
            returned (``num_return_sequences``, ...).

    """
    from transformers import GenerationConfig
    from transformers.generation import StoppingCriteriaList

    if stop_strings and decode is None:
        raise ValueError("stop_strings need 'decode' (ids to text).")
    if streamer is not None and len(seq_lens) > 1:
        raise ValueError(f"a streamer takes one sample, got {len(seq_lens)}.")
    _check_fields(kwargs, GenerationConfig())
    stop_ids = _own_stops(model) if stop_ids is None else list(stop_ids)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=do_sample,
        eos_token_id=stop_ids or None,
        pad_token_id=stop_ids[0] if stop_ids else 0,
        **kwargs,
    )
    texts = _StopTexts(decode, stop_strings) if stop_strings else None
    recorder = None
    if catch or on_step is not None:
        if config.num_beams not in (None, 1):
            raise ValueError("catch and on_step follow one reply each: num_beams=1.")
        recorder = StepRecorder(decoder, model.get_input_embeddings(), catch, on_step)
    embeds, mask = left_pad(inputs_embeds, seq_lens)
    ids = _run(
        model,
        recorder,
        inputs_embeds=embeds,
        attention_mask=mask,
        generation_config=config,
        stopping_criteria=StoppingCriteriaList([texts] if texts else []),
        streamer=streamer,
    )
    ends = {} if texts is None else texts.ends
    found = [(row, ends.get(number), number) for number, row in enumerate(ids)]
    return [_finished(*one, set(stop_ids), recorder) for one in found]


def _run(
    model: torch.nn.Module, recorder: StepRecorder | None, **options: Any
) -> torch.Tensor:
    """Run transformers' ``generate`` in evaluation mode: new ids (B, N)."""
    from transformers import GenerationConfig

    was_training, kept = model.training, getattr(model, "generation_config", None)
    model.eval()
    try:
        # The model's own sampling defaults must not leak into greedy search.
        model.generation_config = GenerationConfig()
        if recorder is None:
            return model.generate(**options)
        with recorder.watching():
            return model.generate(logits_processor=[recorder], **options)
    finally:
        model.generation_config = kept
        model.train(was_training)


def _own_stops(model: torch.nn.Module) -> list[int]:
    """Return the stop tokens that a model names itself."""
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [] if eos is None else [eos] if isinstance(eos, int) else list(eos)


def _check_fields(given: dict[str, Any], known: Any) -> None:
    """Refuse fields by name; those that say nothing are taken out."""
    unknown = [name for name in given if not hasattr(known, name)]
    if unknown:
        raise ValueError(f"generation: unknown fields {unknown}.")
    for name in [name for name in given if name in _REFUSED]:
        value = given.pop(name)
        nothing = 1 if name == "num_return_sequences" else False
        if value is not None and value != nothing:
            raise ValueError(f"generation: {name} is not taken: {_REFUSED[name]}.")


def _finished(
    row: torch.Tensor,
    end: int | None,
    number: int,
    stops: set[int],
    recorder: StepRecorder | None,
) -> Generation:
    """Cut a row behind its end and say why it ended there."""
    finish = "length"
    if end is not None:
        row, finish = row[:end], "stop_string"
    for position, token in enumerate(row.tolist()):
        if token in stops:
            row, finish = row[: position + 1], "stop_id"
            break
    if recorder is None:
        none = row.new_zeros(0)
        return Generation(row, finish, none, torch.zeros(0, 0))
    return Generation(row, finish, *recorder.caught(number, row))
