"""Replies of a model to prompts: their text, and what heads make of their states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mmvlm.models.language_models.generation_steps import GenerationStep
from mmvlm.structures import VLMBatch, VLMDataSample
from mmvlm.text.replies import split_stops, stop_strings

from .reply_states import has_beams, states_read
from .token_context import use_tokens


def reply(
    model: Any,
    inputs: VLMBatch,
    data_samples: list[VLMDataSample] | None,
    options: dict[str, Any],
) -> list[VLMDataSample]:
    """Continue prompts, read the replies and let heads predict.

    Args:
        model (VisionLanguageModel): bound to a processor.
        inputs (VLMBatch): prompts.
        data_samples (list[VLMDataSample] | None): filled in place; new ones when
            None.
        options (dict): of generation.
    """
    processor = model.processor
    tokenizer, template = processor.tokenizer, processor.template
    stops = (*getattr(template, "stop_strings", ()), *stop_strings(options))
    marks, options["stop_strings"] = split_stops(tokenizer, stops)
    options.setdefault("stop_ids", _stop_ids(tokenizer, marks))
    read = {number for own in model.head_ids.values() for number in own}
    if read and not has_beams(options):
        options["catch"] = sorted(read | set(options.get("catch", ())))
    if step := _step(model, options.get("on_step"), inputs):
        options["on_step"] = step
    feed, tokens = model.prepare(inputs)
    with use_tokens(tokens):
        replies = model.language_model.generate(
            feed.embeds,
            inputs.prompt.seq_lens,
            position_ids=inputs.prompt.position_ids,
            decode=tokenizer.decode,
            **options,
        )
    if data_samples is None:
        data_samples = [VLMDataSample() for _ in replies]
    for sample, one in zip(data_samples, replies, strict=True):
        sample.pred_ids = one.ids.tolist()
        sample.finish = one.finish
        if len(one.positions):
            sample.pred_states = one.states
        processor.read_reply(sample, stops)
    beams = has_beams(options)
    for name, head in model.heads.items():
        ids = model.head_ids[name]
        states = states_read(model, head, ids, inputs, replies, beams=beams)
        head.predict(states, data_samples, feed)
    return data_samples


def _step(model: Any, own: Callable | None, inputs: VLMBatch) -> Callable | None:
    """Return what takes the steps of generation: heads, then ``own``; or None."""
    tokenizer, prompt = model.processor.tokenizer, inputs.prompt
    heads = [head for head in model.heads.values() if head.takes_steps]
    steps = [partial(head.on_step, tokenizer=tokenizer) for head in heads]
    if own:
        steps.append(own)
    if not steps:
        return None
    ends = prompt.input_ids[prompt.cu_seqlens[1:].long() - 1].tolist()

    def on_step(step: GenerationStep) -> None:
        step.prompt_ends = ends
        for take in steps:
            take(step)

    return on_step


def _stop_ids(tokenizer: Any, marks: Sequence[int]) -> list[int] | None:
    """Return the stop tokens: EOS and the marks of the template."""
    end = tokenizer.eos_token_id
    return list(dict.fromkeys([*([] if end is None else [end]), *marks])) or None
