"""LLaVA's own label masks, which count tokens round by round.

They fail on many inputs (an answer that holds a separator, a conversation that
ends with a question) and then train nothing of the sample. mmvlm labels from
character spans instead; this module tells what LLaVA would have done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mmvlm.structures import Conversation, Text, Turn

from .templates.base import ChatTemplate
from .token_spans import spans_of

#: Stands for an image in rendered text.
_IMAGE = "\x00"


def official_mask(
    conversation: Conversation,
    template: ChatTemplate,
    tokenizer: Any,
    input_ids: np.ndarray,
    max_length: int | None = None,
) -> tuple[np.ndarray, str | None]:
    """Return which tokens LLaVA trains.

    Args:
        conversation (Conversation): what was encoded.
        template (ChatTemplate): one of LLaVA's (``llava_version`` set).
        tokenizer (Any): a transformers tokenizer.
        input_ids (np.ndarray): (T,), one ``SLOT_TOKEN_ID`` per image.
        max_length (int | None): LLaVA's ``model_max_length``, beyond which it
            forgives a mismatch; None takes the tokenizer's.

    Returns:
        tuple[np.ndarray, str | None]: (T,) bool, and what went wrong when LLaVA
        drops the sample's labels (then nothing is trained).
    """
    prefix, spans = len(spans_of(tokenizer).prefix_ids), spans_of(tokenizer)

    def count(text: str) -> int:
        chunks = text.split(_IMAGE)
        return prefix + len(chunks) - 1 + sum(len(spans.ids(c)) for c in chunks)

    trained = np.ones(len(input_ids), dtype=bool)
    version = template.llava_version
    if version == "plain":
        trained[: count(_IMAGE)] = False
        return trained, None
    if version == "v0":
        _mask_v0(trained, conversation, template, count)
        return trained, None
    pieces = template.render(conversation)
    text = "".join(piece.shown(_IMAGE) for piece in pieces)
    legacy = getattr(tokenizer, "legacy", None)
    rounds, separator, lost, step = _rounds(version, text, template, legacy)
    at = 0 if version == "mpt" else 1
    trained[:at] = False
    for number, said in enumerate(rounds):
        parts = said.split(separator)
        if not said or len(parts) != 2:
            break
        shift = step if number else 0
        prompt_length = count(parts[0] + separator) - lost + shift
        trained[at : at + prompt_length] = False
        at += count(said) + shift
    trained[at:] = False
    padding = tokenizer.pad_token_id
    total = int((input_ids != padding).sum())
    limit = tokenizer.model_max_length if max_length is None else max_length
    if at < limit and at != total:
        trained[:] = False
        return trained, f"counted {at} tokens, the sample has {total}"
    return trained, None


def _rounds(
    version: str, text: str, template: ChatTemplate, legacy: bool | None
) -> tuple[list[str], str, int, int]:
    """Return rounds, what parts question and answer, and two corrections.

    The corrections are the tokens by which the count of a question is too high,
    and what is added to every round but the first.
    """
    marks = template.table
    if version == "mpt":
        end, opening = marks.end_mark, marks.answer_open
        groups = text.split(end)
        rounds = [end.join(groups[:3])]
        rounds += [end.join(groups[i : i + 2]) for i in range(3, len(groups), 2)]
        return rounds, end + opening, 1, 1 if legacy is True else 0
    if version == "llama_2":
        return text.split(marks.end_mark.strip()), "[/INST] ", 2, 0
    separator = f" {marks.answer_open} "
    return text.split(marks.end_mark), separator, 2, -1 if legacy is False else 0


def _mask_v0(
    trained: np.ndarray,
    conversation: Conversation,
    template: ChatTemplate,
    count: Callable[[str], int],
) -> None:
    at = count(f"{template.table.system}\n\n")
    trained[:at] = False
    for turn in conversation.turns:
        speaker = "Human" if turn.role == "user" else "Assistant"
        length = count(f"### {speaker}: {_said(turn, template)}\n")
        if turn.role == "user":
            trained[at + 2 : at + length] = False
        at += length


def _said(turn: Turn, template: ChatTemplate) -> str:
    image = f"{template.image_prefix}{_IMAGE}{template.image_suffix}"
    return "".join(p.text if isinstance(p, Text) else image for p in turn.parts)
