"""Conversations in LLaVA's JSON format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmvlm.structures import Conversation, Image, Media, Text, Turn

IMAGE_TAG = "<image>"
#: Fields of a record, besides ``image``, that hold inputs; ``<audio>`` is the
#: placeholder of an ``audio``.
MEDIA_FIELDS = ("video", "audio", "point", "rgbd", "rgbn", "imu", "fmri")
_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
#: Keys of a turn by which other tools say whether it is trained.
WEIGHT_KEYS = ("weight", "loss", "loss_mask", "loss_weight", "train", "trainable")
_WEIGHTED = frozenset(WEIGHT_KEYS)


def parse_llava_conversation(
    record: dict[str, Any],
    *,
    images: Sequence[Any],
    media: Mapping[str, Sequence[Any]] | None = None,
    collapse_image_tags: bool = False,
    drop_leading_answer: bool = True,
    where: str | None = None,
) -> Conversation:
    r"""Turn ``{"id", "conversations": [{"from", "value"}, ...]}`` into turns.

    The tag ``<image>`` of a text that holds one moves to its front, followed by a
    line break, as LLaVA does. Several tags in one text stay where they are. In a
    record without images the characters ``<image>`` are plain text, and so they
    are inside a sentence of an answer when the questions show all images, or of a
    question when tags on lines of their own do. Placeholders of other modalities
    (``<audio>``, ...) follow the same rules.

    A turn with a ``weight``, ``loss``, ``loss_mask``, ``loss_weight``, ``train`` or
    ``trainable`` of 0 or false is not trained; an answer may also say 1 or true.

    Args:
        record (dict): the record as the file gives it.
        images (Sequence): the record's images, in order; empty for text only.
        media (Mapping | None): its other inputs by modality, in order.
        collapse_image_tags (bool): LLaVA's own rule for several tags in one
            text: they become one. Default: every tag is an image.
        drop_leading_answer (bool): leave out a first turn by ``gpt``, as LLaVA
            does; ``meta['dropped_turns']`` counts it.
        where (str | None): names the sample in messages, for example ``sample
            1042 of llava-665k``; None takes the record's id.

    Returns:
        Conversation: ``meta`` holds the record's other fields.

    Raises:
        ValueError: naming the sample, for a record without turns, an unknown
            speaker, a value that is no text (null is an empty one), a weight
            that is neither 0 nor 1, or tags that do not fit the images.

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
    inputs = {"image": images} if images else {}
    inputs.update({name: items for name, items in (media or {}).items() if items})
    counts = dict.fromkeys(["image", *inputs], 0)
    entries = [_entry(entry, number, where) for number, entry in enumerate(raw)]
    patterns: list[list[str]] = [[] for _ in entries]
    for name, items in inputs.items():
        places = _places(entries, name, len(items), collapse_image_tags)
        for own, pattern in zip(patterns, places, strict=True):
            own += [pattern] if pattern else []
    for (role, value, supervised), own in zip(entries, patterns, strict=True):
        parts: tuple = (Text(value),)
        if own and re.search("|".join(own), value):
            parts = _parts(value, own, counts, collapse_image_tags)
        turns.append(Turn(role, parts, supervised))
    _check_counts(counts, images, media or {}, where)
    meta = {
        key: value
        for key, value in record.items()
        if key not in ("id", "image", "conversations") and not _is_of(key, inputs)
    }
    if drop_leading_answer and _without_leading_answer(turns, where):
        meta["dropped_turns"] = 1
    others = {name: list(items) for name, items in (media or {}).items() if items}
    return Conversation(turns, list(images), str(record.get("id", "")), meta, others)


def _check_counts(
    counts: dict[str, int],
    images: Sequence[Any],
    media: Mapping[str, Sequence[Any]],
    where: str,
) -> None:
    """Hold the placeholders of all turns against the record's inputs."""
    for name, items in media.items():
        if counts.get(name, 0) != len(items):
            raise ValueError(
                f"{where}: {counts.get(name, 0)} <{name}> placeholders but "
                f"{len(items)} inputs in '{name}'."
            )
    count = counts["image"]
    if count != len(images):
        shown = ", ".join(f"'{i}'" if isinstance(i, str) else "array" for i in images)
        plural = "" if count == 1 else "s"
        raise ValueError(
            f"{where}: {count} <image> placeholder{plural} but {len(images)} "
            f"image{'' if len(images) == 1 else 's'} ({shown})."
        )


def _without_leading_answer(turns: list[Turn], where: str) -> bool:
    """Take a first turn by the model out of ``turns``; tell whether there was one."""
    first = next((t for t in turns if t.role != "system"), None)
    if first is None or first.role != "assistant":
        return False
    kept = [p for p in first.parts if not isinstance(p, Text)]
    if kept:
        name = getattr(kept[0], "modality", "image")
        raise ValueError(
            f"{where}: the first turn is an answer that holds an <{name}>; it "
            "cannot be left out."
        )
    turns.remove(first)
    return True


def _is_of(key: str, inputs: Mapping[str, Any]) -> bool:
    """Whether a field holds inputs of the record: ``image``, ``images``, ..."""
    return key in inputs or (key.endswith("s") and key[:-1] in inputs)


def _places(
    entries: Sequence[tuple], name: str, wanted: int, collapse: bool
) -> list[str | None]:
    """Return per turn what a placeholder looks like there; None: there is none.

    Tags on lines of their own always are. Those inside a sentence are too, in
    questions and answers or in questions alone, whichever gives as many as there are
    inputs. If nothing does, all are, which does not fit and is told.
    """
    tag = f"<{name}>"
    line = rf"(?m:^[ \t]*{tag}[ \t]*$)"
    for user_tag, reply_tag in ((tag, line), (tag, tag), (line, line)):
        own = [user_tag if role == "user" else reply_tag for role, *_ in entries]
        found = [
            len(re.findall(pattern, value)) if tag in value else 0
            for pattern, (_, value, _) in zip(own, entries, strict=True)
        ]
        if sum(min(1, n) if collapse else n for n in found) == wanted:
            return [
                pattern if n else None for pattern, n in zip(own, found, strict=True)
            ]
    return [tag] * len(entries)


def _entry(entry: Any, number: int, where: str) -> tuple[Any, str, bool | None]:
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
    value = "" if entry["value"] is None else entry["value"]
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: turn {number} has a value of type {type(value).__name__}, "
            "expected text."
        )
    return role, value, read_weight(entry, role, f"{where}: turn {number}")


def read_weight(entry: Mapping[str, Any], role: str, where: str) -> bool | None:
    """Return what a turn's own weight says of its training, None for nothing.

    Args:
        entry (Mapping): the turn, with any of :data:`WEIGHT_KEYS`.
        role (str): whose turn it is.
        where (str): names the turn in messages.

    Raises:
        ValueError: naming the key, for a weight between or beyond 0 and 1, or a
            question that is to be trained.
    """
    if _WEIGHTED.isdisjoint(entry):
        return None
    weights = {key: entry[key] for key in WEIGHT_KEYS if entry.get(key) is not None}
    for key, value in weights.items():
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise ValueError(
                f"{where} has {key}={value!r:.40}; a turn is trained (1, true) or not "
                "(0, false), other weights are not known here."
            )
        if value and role != "assistant":
            raise ValueError(
                f"{where} has {key}={value!r}, but only answers are trained. Leave "
                f"'{key}' out of questions, or set it to 0."
            )
    if not weights:
        return None
    return None if all(weights.values()) else False


def _parts(
    value: str, patterns: list[str], counts: dict[str, int], collapse: bool
) -> tuple:
    """Cut a text with tags into parts; ``counts`` numbers inputs and grows."""
    pattern = "|".join(patterns)
    tags = [tag.strip()[1:-1] for tag in re.findall(pattern, value)]
    if collapse:
        tags = list(dict.fromkeys(tags))
    if len(tags) == 1:
        rest = re.sub(pattern, "", value).strip()
        place = _place(tags[0], counts)
        return (place, Text(f"\n{rest}")) if rest else (place,)
    if collapse:
        raise ValueError(
            f"collapse_image_tags joins tags of one modality, but a text has {tags}."
        )
    parts: list = []
    for number, text in enumerate(re.split(pattern, value.strip())):
        if number:
            parts.append(_place(tags[number - 1], counts))
        if text:
            parts.append(Text(text))
    return tuple(parts)


def _place(name: str, counts: dict[str, int]) -> Image | Media:
    number = counts[name]
    counts[name] += 1
    return Image(number) if name == "image" else Media(name, number)
