"""How likely a model finds replies that it is given: the options of a question."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from .base import LanguageModel
from .generation import evaluating
from .generation_steps import GenerationStep
from .greedy import ReplyCache, keeps_keys_alone, run_cached, run_first
from .output_head import apply_head

#: Token ids of every reply to every prompt.
Replies = Sequence[Sequence[Sequence[int]]]


@torch.no_grad()
def reply_log_probs(
    model: LanguageModel,
    inputs_embeds: torch.Tensor,
    seq_lens: Sequence[int],
    replies: Replies,
    *,
    position_ids: torch.Tensor | None = None,
    share_prefix: bool = True,
) -> list[list[list[float]]]:
    """Return the log probability of every token of given replies, in nats.

    Prompts are read once, their common beginning once for all, and the replies behind
    what is cached of them. Where a model keeps more than keys and values of tokens, or
    must see a prompt as a whole, each reply is a greedy search that is led along it.

    Args:
        model (LanguageModel): continues the prompts.
        inputs_embeds (torch.Tensor): (T, Dl), prompts one after the other.
        seq_lens (Sequence[int]): their lengths.
        replies (Sequence): per prompt the token ids of its replies, none empty.
        position_ids (torch.Tensor | None): of the prompts, see ``generate``.
        share_prefix (bool): False always takes the search.

    Returns:
        list[list[list[float]]]: per prompt, reply and token.

    Raises:
        ValueError: when learned positions, or generation, end before a reply does.
    """
    guard = getattr(model, "position_guard", None)
    decoder_alone = guard is not None and not model.is_encoder_decoder
    if decoder_alone:
        longest = (max(map(len, own)) for own in replies)
        lengths = [n + more for n, more in zip(seq_lens, longest, strict=True)]
        guard.check(lengths, "tokens of prompt and reply")
    one_axis = position_ids is None or position_ids.dim() == 1
    adapters = getattr(model, "adapters", None)
    whole = adapters or not keeps_keys_alone(model.model)
    if share_prefix and one_axis and not whole:
        with evaluating(model.model):
            return _behind_cache(model, inputs_embeds, seq_lens, replies)
    options = dict(position_ids=position_ids)
    if decoder_alone and guard.learned and guard.limit and not adapters:
        # Rows that are led together all end where the longest prompt must. The model
        # counts learned positions itself.
        parts = zip(inputs_embeds.split(list(seq_lens)), seq_lens, replies, strict=True)
        return [_led(model, one, [n], [own], options)[0] for one, n, own in parts]
    return _led(model, inputs_embeds, seq_lens, replies, options)


def _behind_cache(
    model: Any, inputs_embeds: torch.Tensor, seq_lens: Sequence[int], replies: Replies
) -> list[list[list[float]]]:
    cache, decoder = ReplyCache(), model.decoder
    states, mask = run_first(decoder, inputs_embeds.split(list(seq_lens)), cache)
    first, num_read = _log_softmax(model, states), cache.get_seq_length()
    heads = [[reply[0] for reply in own] for own in replies]
    found = [
        [[value] for value in row[own].tolist()]
        for row, own in zip(first, heads, strict=True)
    ]
    for number in range(max(map(len, replies))):
        # The last token of a reply is only to be predicted.
        read = [own[number][:-1] if number < len(own) else [] for own in replies]
        width = max(map(len, read))
        if not width:
            continue
        ids = mask.new_tensor([[*own, *[0] * (width - len(own))] for own in read])
        lengths = mask.new_tensor([len(own) for own in read])
        real = torch.arange(width, device=mask.device) < lengths[:, None]
        cache.crop(num_read)
        states = run_cached(
            decoder,
            model.embed(ids.flatten()).unflatten(0, ids.shape),
            torch.cat([mask, real.to(mask)], 1),
            cache,
        )
        logs = _log_softmax(model, states[real]).split(lengths.tolist())
        for own, replied, rows in zip(found, replies, logs, strict=True):
            if len(rows):
                nexts = rows.new_tensor(replied[number][1:], dtype=torch.int64)
                own[number] += rows.gather(1, nexts[:, None])[:, 0].tolist()
    return found


def _log_softmax(model: Any, states: torch.Tensor) -> torch.Tensor:
    """Return log probabilities in float32: (R, Dl) to (R, vocab)."""
    return apply_head(model.model, states).float().log_softmax(-1)


def _led(
    model: LanguageModel,
    inputs_embeds: torch.Tensor,
    seq_lens: Sequence[int],
    replies: Replies,
    options: dict[str, Any],
) -> list[list[list[float]]]:
    longest = max(len(reply) for own in replies for reply in own)
    found: list[list[list[float]]] = [[[] for _ in own] for own in replies]
    # The first step tells of all first tokens.
    for number in range(max(map(len, replies)) if longest > 1 else 1):

        def on_step(step: GenerationStep, number: int = number) -> None:
            said, logs = step.ids.shape[1], step.logits.float().log_softmax(-1)
            for row, own in enumerate(replies):
                places = range(len(own)) if longest == 1 else [number]
                for place in places:
                    if place < len(own) and said < len(own[place]):
                        token = own[place][said]
                        found[row][place].append(float(logs[row, token]))
                        step.allow(row, [token])

        model.generate(
            *(inputs_embeds, tuple(seq_lens)),
            max_new_tokens=longest,
            stop_ids=[],
            on_step=on_step,
            **options,
        )
    for values, reply in zip(chain(*found), chain(*replies), strict=True):
        if len(values) != len(reply):
            raise ValueError(
                f"generation ended after {len(values)} of the {len(reply)} tokens of a "
                "reply that is to be scored; score fewer prompts together."
            )
    return found
