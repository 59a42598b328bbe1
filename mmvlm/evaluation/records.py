"""Answer records, version 1: one JSON object per question, enough to score again.

A record holds ``uid`` (unique where ids are not), ``benchmark``, ``split``, ``index``
(row in the file), ``sample_id``, ``question_id`` (of the file's own type), ``image``
(path, list of paths, or a digest of embedded images), ``prompt`` (as rendered,
images as ``<image>``), ``question``, ``text``, ``finish`` (``stop``, ``length`` or
``error``), ``num_tokens``, ``gen`` (decoding settings), ``reference``, ``meta`` and
``cluster``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmvlm.structures import Conversation, Region

from .benchmark import Benchmark

#: Fields of a record, in their order.
FIELDS = (
    *("uid", "benchmark", "split", "index", "sample_id", "question_id", "image"),
    *("prompt", "question", "text", "finish", "num_tokens", "gen", "reference"),
    *("meta", "cluster"),
)
#: What names of images begin with that have no file of their own.
_DIGEST = "sha256:"
#: What readers say of a question that has a field of its own.
_OWN_FIELDS = ("question_id", "reference")


def uid_of(benchmark: str, index: int, sample_id: str) -> str:
    """Return the name of a question that no other one of any benchmark has."""
    return f"{benchmark}/{index}/{sample_id}"


def question_record(
    benchmark: Benchmark,
    index: int,
    sample_id: str,
    conversation: Conversation | None,
    gen: dict[str, Any],
) -> dict[str, Any]:
    """Return the record of a question that is not answered yet.

    Args:
        benchmark (Benchmark): whose question it is.
        index (int): row in the file.
        sample_id (str): as the reader names it.
        conversation (Conversation | None): as the reader gives it; None where it
            cannot be read.
        gen (dict): decoding settings.
    """
    record = dict.fromkeys(FIELDS)
    record.update(
        uid=uid_of(benchmark.name, index, sample_id),
        benchmark=benchmark.name,
        split=benchmark.split,
        index=index,
        sample_id=sample_id,
        question_id=sample_id,
        text="",
        num_tokens=0,
        gen=gen,
        meta={},
        cluster=sample_id,
    )
    if conversation is None:
        return record
    said = dict(conversation.meta)
    images = [image_name(one) for one in conversation.images]
    meta = {key: value for key, value in said.items() if key not in _OWN_FIELDS}
    if "choices" in meta:
        meta.setdefault("options", meta["choices"])
    group = images or [sample_id]
    if benchmark.cluster != "image":
        group = said.get(benchmark.cluster, sample_id)
    questions = [turn for turn in conversation.turns if turn.role == "user"]
    record.update(
        question_id=said.get("question_id", conversation.id),
        image=images[0] if len(images) == 1 else images or None,
        question=questions[-1].text.strip() if questions else "",
        reference=_reference(conversation),
        meta=meta,
        cluster=group[0] if isinstance(group, list) and len(group) == 1 else group,
    )
    return plain(record, record["uid"])


def _reference(conversation: Conversation) -> Any:
    """Return what an answer is held against, None where the file hides it."""
    meta, last = conversation.meta, conversation.turns[-1]
    if "reference" in meta:
        return meta["reference"]
    if meta.get("choices") is not None:
        choice = meta.get("choice")
        return None if choice is None else chr(ord("A") + choice)
    if meta.get("answers"):
        return list(meta["answers"])
    return last.text.strip() if last.role == "assistant" else None


def image_name(source: Any) -> str:
    """Return what tells an image from others: its path, or a digest of its bytes."""
    if isinstance(source, str):
        return source
    if isinstance(source, np.ndarray):
        source = np.ascontiguousarray(source).tobytes()
    content = source if isinstance(source, bytes) else repr(source).encode()
    return f"{_DIGEST}{hashlib.sha256(content).hexdigest()[:24]}"


def is_embedded(name: str) -> bool:
    """Tell whether a name of :func:`image_name` is of an image without a file."""
    return name.startswith(_DIGEST)


def region_values(regions: Sequence[Region]) -> list[dict[str, Any]]:
    """Return regions of a reply as plain values, boxes in pixels of the image."""
    return [
        dict(
            kind=one.kind,
            image=one.image,
            phrase=one.phrase,
            boxes=one.boxes.to("pixel").xyxy.tolist(),
            size=list(one.boxes.size),
            rles=[rle for rle in one.rles if rle is not None],
            score=one.score,
        )
        for one in regions
    ]


def plain(value: Any, where: str) -> Any:
    """Return a value as JSON gives it back.

    Raises:
        TypeError: naming the record, for what JSON cannot hold.
    """
    try:
        return json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError) as error:
        raise TypeError(f"record '{where}' holds what JSON cannot: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} {value!r:.60}")
