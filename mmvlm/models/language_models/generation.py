"""Batched generation from flat prompt embeddings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from .axis_positions import position_table, use_positions
from .generation_steps import Generation, GenerationStep, StepRecorder, watching
from .padding import RightPadding, left_pad

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

#: A stop string ends within so many tokens.
_WINDOW = 32


class _StopTexts:
    """Say per row whether its new text holds one of the stop strings."""

    def __init__(self, decode: Callable, stops: Sequence[str], start: int):
        self.decode, self.stops, self.start = decode, tuple(stops), start
        #: Row to the number of new tokens at which it ended so.
        self.ends: dict[int, int] = {}

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        # With inputs_embeds, transformers passes the new tokens only, in an
        # encoder-decoder behind the one that opens every reply.
        input_ids = input_ids[:, self.start :]
        done = [self.stands_in(row) for row in input_ids[:, -_WINDOW:].tolist()]
        for row in (row for row, ended in enumerate(done) if ended):
            self.ends.setdefault(row, input_ids.shape[1])
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)

    def stands_in(self, ids: list[int]) -> bool:
        """Whether the end of a reply holds a stop string."""
        tail = self.decode(ids[-_WINDOW:])
        return any(stop in tail for stop in self.stops)


def generate_from_embeds(
    model: torch.nn.Module,
    inputs_embeds: torch.Tensor,
    seq_lens: Sequence[int],
    *,
    stop_ids: Sequence[int] | None = None,
    stop_strings: Sequence[str] = (),
    decode: Callable[[list[int]], str] | None = None,
    streamer: Any = None,
    decoder: torch.nn.Module | None = None,
    position_ids: torch.Tensor | None = None,
    share_prefix: bool = False,
    catch: Sequence[int] = (),
    on_step: Callable[[GenerationStep], Any] | None = None,
    **kwargs: Any,
) -> list[Generation]:
    """Continue prompts with a transformers model; greedy unless told otherwise.

    Args:
        model (torch.nn.Module): a transformers model that can generate; the prompts
            of an encoder-decoder are what its encoder reads.
        inputs_embeds (torch.Tensor): (T, Dl), prompts one after the other.
        seq_lens (Sequence[int]): their lengths.
        stop_ids (Sequence[int] | None): tokens that end a reply; None takes the
            model's own.
        stop_strings (Sequence[str]): texts that end a reply; need ``decode``.
        decode (Callable | None): ids to text, special tokens kept.
        streamer (Any): a transformers streamer; one sample only.
        decoder (torch.nn.Module | None): the stack of blocks with the final norm; the
            options below need it.
        position_ids (torch.Tensor | None): (A, T), positions of the prompts on A axes;
            with None or (T,) the tokens of each are counted.
        share_prefix (bool): run embeddings with which several prompts begin once, as
            of questions about one image; greedy rows leave the batch when they end.
        catch (Sequence[int]): tokens whose states are returned.
        on_step (Callable | None): called with the :class:`GenerationStep` of every
            step, to allow or forbid tokens and feed embeddings.
        **kwargs: other fields of transformers' ``GenerationConfig``;
            ``max_new_tokens`` is 128.

    Returns:
        list[Generation]: one per sample.

    Raises:
        ValueError: for options that do not go together, or that would break what is
            returned (``num_return_sequences``, ...).
    """
    from transformers.generation import StoppingCriteriaList

    from .greedy import generate_greedily

    if stop_strings and decode is None:
        raise ValueError("stop_strings need 'decode' (ids to text).")
    stop_ids = _own_stops(model) if stop_ids is None else list(stop_ids)
    config = _config(model, stop_ids, kwargs)
    follows = bool(catch) or on_step is not None
    if (follows or share_prefix) and config.num_beams not in (None, 1):
        raise ValueError("catch, on_step and share_prefix need num_beams=1.")
    start = int(model.config.is_encoder_decoder)
    texts = _StopTexts(decode, stop_strings, start) if stop_strings else None
    recorder = StepRecorder(decoder, catch, on_step, start) if follows else None
    table = None
    if position_ids is not None and position_ids.dim() > 1:
        table = position_table(position_ids, seq_lens, config.max_new_tokens)
    with evaluating(model):
        if share_prefix and not follows and streamer is None and table is None:
            pieces = inputs_embeds.split(list(seq_lens))
            if found := generate_greedily(model, decoder, pieces, config, texts):
                return found
        prompts = _prompts(model, decoder, inputs_embeds, seq_lens, share_prefix, table)
        with use_positions(decoder, table), watching(recorder) as processors:
            ids = model.generate(
                **prompts,
                generation_config=config,
                logits_processor=processors,
                stopping_criteria=StoppingCriteriaList([texts] if texts else []),
                streamer=_checked(streamer, seq_lens, start),
            )[:, start:]
    ends, stops = {} if texts is None else texts.ends, set(stop_ids)
    return [_finished(x, ends.get(n), n, stops, recorder) for n, x in enumerate(ids)]


def _checked(streamer: Any, seq_lens: Sequence[int], start: int) -> Any:
    """Return a streamer that sees replies alone, or None."""
    if streamer is not None and len(seq_lens) > 1:
        raise ValueError(f"a streamer takes one sample, got {len(seq_lens)}.")
    if streamer is None or not start:
        return streamer
    from .streaming import ReplyStreamer

    return ReplyStreamer(streamer)


def _prompts(
    model, decoder, inputs_embeds, seq_lens, share_prefix, table
) -> dict[str, Any]:
    """Lay prompts out as ``generate`` of the model takes them."""
    if model.config.is_encoder_decoder:
        if share_prefix:
            raise ValueError(
                "share_prefix: an encoder reads every prompt as a whole; set it False."
            )
        layout = RightPadding.of(seq_lens, inputs_embeds.device)
        embeds, mask = layout.pad(inputs_embeds), layout.mask.long()
    else:
        if share_prefix:
            from .prefix_sharing import run_prefixes

            pieces = inputs_embeds.split(list(seq_lens))
            if (shared := run_prefixes(decoder, pieces, table)) is not None:
                return shared
        embeds, mask = left_pad(inputs_embeds, seq_lens)
    return dict(inputs_embeds=embeds, attention_mask=mask)


def _config(
    model: torch.nn.Module, stop_ids: list[int], options: dict[str, Any]
) -> Any:
    """Return the ``GenerationConfig`` of these options."""
    from transformers import GenerationConfig

    _check_fields(options, GenerationConfig())
    if model.config.is_encoder_decoder:
        options["decoder_start_token_id"] = decoder_start(model)
    return GenerationConfig(
        eos_token_id=stop_ids or None,
        pad_token_id=stop_ids[0] if stop_ids else 0,
        **{"max_new_tokens": 128, "do_sample": False, **options},
    )


def decoder_start(model: torch.nn.Module) -> int:
    """Return the token that opens every reply of an encoder-decoder.

    Raises:
        ValueError: when the model names none.
    """
    configs = (model.config, getattr(model, "generation_config", None))
    for name in ("decoder_start_token_id", "bos_token_id"):
        for config in configs:
            if (token := getattr(config, name, None)) is not None:
                return token
    raise ValueError(
        f"{type(model).__name__} names no token that opens a reply; set "
        "language_model.config=dict(decoder_start_token_id=...)."
    )


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, without its own sampling defaults."""
    from transformers import GenerationConfig

    was_training, kept = model.training, getattr(model, "generation_config", None)
    model.eval()
    try:
        # They must not leak into greedy search.
        model.generation_config = GenerationConfig()
        yield
    finally:
        model.generation_config = kept
        model.train(was_training)


def _own_stops(model: torch.nn.Module) -> list[int]:
    """Return the stop tokens that a model names itself."""
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [] if eos is None else [eos] if isinstance(eos, int) else list(eos)


def _check_fields(fields: dict[str, Any], known: Any) -> None:
    """Refuse fields by name; those that say nothing are taken out."""
    unknown = [name for name in fields if not hasattr(known, name)]
    if unknown:
        raise ValueError(f"generation: unknown fields {unknown}.")
    for name in [name for name in fields if name in _REFUSED]:
        value = fields.pop(name)
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
