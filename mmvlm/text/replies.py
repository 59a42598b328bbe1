"""From the ids of a reply to its text: marks end it, words that look alike do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def stop_strings(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the stop strings that generation options name, one or several.

    Raises:
        ValueError: for something else than texts.
    """
    strings = options.get("stop_strings") or ()
    stops = (strings,) if isinstance(strings, str) else tuple(strings)
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"stop_strings={strings!r}: expected texts, none empty.")
    return stops


def split_stops(tokenizer: Any, stops: Sequence[str]) -> tuple[list[int], list[str]]:
    """Part what ends a reply into tokens, and words that are spelled.

    Args:
        tokenizer (Any): a transformers tokenizer.
        stops (Sequence[str]): stop strings.

    Returns:
        tuple[list[int], list[str]]: ids of those that are one token, and those that
        ordinary tokens may spell: all but special tokens.
    """
    known = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special, unknown = {t.content for t in known}, tokenizer.unk_token_id
    ids = [n for s in stops if (n := tokenizer.convert_tokens_to_ids(s)) != unknown]
    return [n for n in ids if n is not None], [s for s in stops if s not in special]


def reply_text(
    tokenizer: Any,
    ids: Sequence[int],
    stops: Sequence[str],
    *,
    ended: bool = True,
    keep: Sequence[str] = (),
) -> str:
    """Decode a reply up to its end, special tokens off.

    A stop string that is a special token ends a reply as that token only: a reply
    may well explain ``</s>`` in ordinary tokens.

    Args:
        tokenizer (Any): decodes ``ids``.
        ids (Sequence[int]): what the model said, the end with it or not.
        stops (Sequence[str]): strings at which a reply ends.
        ended (bool): False for a reply that goes on: what further tokens may change
            (half a character, the beginning of a stop string) is held back.
        keep (Sequence[str]): special tokens that are part of what is said. No stop
            string is found inside one; where one is a stop string, the reply ends
            behind it.
    """
    marks, words = split_stops(tokenizer, stops)
    ids = list(ids)
    own = tokens_among(tokenizer, ids, set(keep)) if keep else {}
    ends = (ids.index(mark) + (mark in own) for mark in marks if mark in ids)
    ids = ids[: min(ends, default=None)]
    special = set(tokenizer.all_special_tokens) - set(own.values())
    text = _decoded(tokenizer, ids, own)
    # Special tokens in the middle of a stop string ("### End.</s>") are off as well.
    for token in special:
        words = [word.replace(token, "") for word in words]
    said = text
    for token in set(own.values()):
        said = said.replace(token, "\0" * len(token))
    found = [at for word in words if word and (at := said.find(word)) >= 0]
    if found:
        text = text[: min(found)]
    elif not ended:
        pending = max((_overlap(text, word) for word in words), default=0)
        text = text[: len(text) - pending]
    if not ended:  # an incomplete character decodes to the replacement character
        text = text.rstrip("\ufffd")
    return text.strip()


def tokens_among(
    tokenizer: Any, ids: Sequence[int], tokens: set[str]
) -> dict[int, str]:
    """Return those of the ids that are one of some tokens, with their texts."""
    seen = list(dict.fromkeys(ids))
    texts = tokenizer.convert_ids_to_tokens(seen)
    return {n: t for n, t in zip(seen, texts, strict=True) if t in tokens}


def _decoded(tokenizer: Any, ids: Sequence[int], own: Mapping[int, str]) -> str:
    """Decode ids, special tokens off but for ``own``."""
    if not own:
        return tokenizer.decode(ids, skip_special_tokens=True)
    special = set(tokenizer.all_special_ids) - set(own)
    return tokenizer.decode(
        [number for number in ids if number not in special],
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of ``text`` begin ``stop``."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
