"""Conversations in LLaVA's JSON format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmvlm.structures import Conversation, Image, Text, Turn

IMAGE_TAG = "<image>"
_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


def parse_llava_conversation(
    record: dict[str, Any],
    *,
    images: Sequence[Any],
    collapse_image_tags: bool = False,
    drop_leading_answer: bool = True,
    where: str | None = None,
) -> Conversation:
    r"""Turn ``{"id", "conversations": [{"from", "value"}, ...]}`` into turns.

    The tag ``<image>`` of a text that holds one moves to its front, followed by a
    line break, as LLaVA does. Several tags in one text stay where they are. In a
    record without pictures the characters ``<image>`` are plain text.

    Args:
        record (dict): the record as the file gives it.
        images (Sequence): the record's pictures, in order; empty for text only.
        collapse_image_tags (bool): LLaVA's own rule for several tags in one
            text: they become one. Default: every tag is a picture.
        drop_leading_answer (bool): leave out a first turn by ``gpt``, as LLaVA
            does; ``meta['dropped_turns']`` counts it.
        where (str | None): names the sample in messages, for example ``sample
            1042 of llava-665k``; None takes the record's id.

    Returns:
        Conversation: ``meta`` holds the record's other fields.

    Raises:
        ValueError: naming the sample, for a record without turns, an unknown
            speaker, a value that is no text, or tags that do not fit the pictures.

    Example:
        >>> record = {"id": "7", "conversations": [
        ...     {"from": "human", "value": "What is this?\n<image>"},
        ...     {"from": "gpt", "value": "A clock."}]}
        >>> parse_llava_conversation(record, images=["a.png"]).turns[0].parts
        (Image(index=0), Text(text='\nWhat is this?'))

    """
    where = where or f"sample '{record.get('id', '')}'"
    raw = record.get("conversations")
    if not isinstance(raw, list) or not raw:
        raise ValueError(
            f"{where}: 'conversations' must be a list of turns, got {raw!r:.80}."
        )
    turns: list[Turn] = []
    count = 0
    for number, entry in enumerate(raw):
        role, value = _entry(entry, number, where)
        parts: tuple = (Text(value),)
        if images and IMAGE_TAG in value:
            parts = _parts(value, count, collapse_image_tags)
            count += sum(isinstance(part, Image) for part in parts)
        turns.append(Turn(role, parts))
    if count != len(images):
        shown = ", ".join(f"'{i}'" if isinstance(i, str) else "array" for i in images)
        plural = "" if count == 1 else "s"
        raise ValueError(
            f"{where}: {count} <image> placeholder{plural} but {len(images)} "
            f"image{'' if len(images) == 1 else 's'} ({shown})."
        )
    meta = {
        key: value
        for key, value in record.items()
        if key not in ("id", "image", "conversations")
    }
    first = next((t for t in turns if t.role != "system"), None)
    if drop_leading_answer and first is not None and first.role == "assistant":
        if any(isinstance(part, Image) for part in first.parts):
            raise ValueError(
                f"{where}: the first turn is an answer that holds an <image>; it "
                "cannot be left out."
            )
        turns.remove(first)
        meta["dropped_turns"] = 1
    return Conversation(turns, list(images), str(record.get("id", "")), meta)


def _entry(entry: Any, number: int, where: str) -> tuple[Any, str]:
    if not isinstance(entry, dict) or "from" not in entry or "value" not in entry:
        raise ValueError(
            f"{where}: turn {number} must be an object with 'from' and 'value', got "
            f"{entry!r:.80}."
        )
    role = _ROLES.get(entry["from"])
    if role is None:
        raise ValueError(
            f"{where}: turn {number} has from={entry['from']!r}, expected one of "
            f"{list(_ROLES)}."
        )
    if not isinstance(entry["value"], str):
        raise ValueError(
            f"{where}: turn {number} has a value of type "
            f"{type(entry['value']).__name__}, expected text."
        )
    return role, entry["value"]


def _parts(value: str, first: int, collapse: bool) -> tuple:
    """Cut a text with tags into parts; pictures are numbered from ``first``."""
    tags = value.count(IMAGE_TAG)
    if tags == 1 or collapse:
        rest = value.replace(IMAGE_TAG, "").strip()
        return (Image(first), Text(f"\n{rest}")) if rest else (Image(first),)
    parts: list = []
    for number, text in enumerate(value.strip().split(IMAGE_TAG)):
        if number:
            parts.append(Image(first + number - 1))
        if text:
            parts.append(Text(text))
    return tuple(parts)
