"""Questions as users write them: texts, images, sounds and boxes, one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from mmvlm.structures import (
    Conversation,
    Image,
    Media,
    Region,
    Text,
    TextMark,
    Turn,
    VLMDataSample,
)

from .llava_format import parse_llava_conversation
from .region_prompts import KINDS, region_of, with_regions

#: A question: a text, or parts of it in order.
Prompt = str | Sequence[Any]
#: Questions and replies of a dialogue so far.
History = Sequence[tuple[str, str | VLMDataSample]]
Read = Callable[[str, Any], Any]


def ask(
    prompt: Prompt,
    inputs: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    history: History = (),
    *,
    regions: Sequence[Any] | Mapping[int, Any] = (),
    system: str | None = None,
    sample_id: str = "",
    read: Read = lambda name, source: source,
) -> Conversation:
    """Return the conversation of a question.

    A part of a question is a text, an image (PIL or array), a part of a
    :class:`Conversation` (:class:`Text`, :class:`Region`), or a dict of one entry:
    ``{"image": source}``, ``{"audio": source}`` (or another modality),
    ``{"box": (x1, y1, x2, y2)}``, ``{"point": (x, y)}`` or ``{"mask": source}`` in
    pixels of the image that was shown last.

    Args:
        prompt (str | Sequence): the question, a text or parts.
        inputs (Mapping[str, Sequence]): sources by modality (``image``, ...).
            They stand in front of the first question, or where the texts say
            ``<image>``, ``<audio>``, ...
        history (Sequence[tuple[str, str | VLMDataSample]]): questions and replies
            before. Tokens of the codec in a reply are the model's own, but what an
            answered sample says by other tokens (``pred_quoted``) stays text; in a
            reply that is a text nothing tells, and all it spells are tokens.
        regions (Sequence | Mapping[int, Any]): what ``<region1>``, ... in questions
            stand for; see :func:`with_regions`.
        system (str | None): system text in place of the template's own.
        sample_id (str): for messages.
        read (Callable): makes of modality and source what the conversation holds.

    Raises:
        TypeError: for something else as a part.
        ValueError: when the texts show another number of inputs, or a region does not
            fit its image, or no question mentions it.
    """
    inputs = {
        name: [read(name, s) for s in sources] for name, sources in inputs.items()
    }
    replies = [_reply(said) for _, said in history]
    texts = [question for question, _ in history]
    texts.append(prompt if isinstance(prompt, str) else "")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a turn is a {type(text).__name__}, expected text.")
    for name in reversed(inputs):
        tag = f"<{name}>"
        if inputs[name] and not any(tag in text for text in texts):
            texts[0] = f"{tag}\n" * len(inputs[name]) + texts[0]
    entries = [{"from": "human", "value": text} for text in texts]
    if system is not None:
        entries.insert(0, {"from": "system", "value": system})
    record = dict(id=sample_id, conversations=entries)
    talk = parse_llava_conversation(
        record, images=inputs.pop("image", ()), media=inputs
    )
    # No reply shows an input, whatever it says: they come in behind the parser.
    first = len(talk.turns) - len(texts)
    for number, reply in enumerate(replies):
        talk.turns.insert(first + 2 * number + 1, Turn("assistant", (reply,)))
    if not isinstance(prompt, str):
        talk = _with_parts(talk, prompt, read)
    return with_regions(talk, regions, read)


def _with_parts(talk: Conversation, prompt: Sequence, read: Read) -> Conversation:
    """Put the parts of a question behind what its turn holds."""
    images, media = list(talk.images), {k: list(v) for k, v in talk.media.items()}
    last = talk.turns[-1]
    parts: list[Any] = [part for part in last.parts if part != Text("")]
    if parts:
        parts.append(Text("\n"))
    for part in prompt:
        name, source = _named(part)
        if name == "text":
            parts.append(source if isinstance(source, Text) else Text(source))
        elif name == "region":
            parts.append(source)
        elif name in KINDS:
            what = f"{name} {source!r:.60}"
            parts.append(region_of(part, images, len(images) - 1, read, what))
        elif name == "image":
            parts.append(Image(len(images)))
            images.append(read(name, source))
        else:
            own = media.setdefault(name, [])
            parts.append(Media(name, len(own)))
            own.append(read(name, source))
    turns = [*talk.turns[:-1], Turn(last.role, tuple(parts))]
    return replace(talk, turns=turns, images=images, media=media)


def _reply(said: str | VLMDataSample) -> Text:
    """Return a reply of the history, the tokens that it only quotes as words."""
    if isinstance(said, str):
        return Text(said, "markup")
    if not isinstance(said, VLMDataSample):
        raise TypeError(
            f"a reply of the history is a {type(said).__name__}, expected a text or "
            "what answer() gave."
        )
    quoted = tuple(TextMark(*span, "literal") for span in said.get("pred_quoted", ()))
    return Text(said.pred_text, "markup", quoted)


def _named(part: Any) -> tuple[str, Any]:
    """Return what a part is, and its source."""
    if isinstance(part, str | Text):
        return "text", part
    if isinstance(part, Region):
        return "region", part
    if isinstance(part, dict) and len(part) == 1:
        return next(iter(part.items()))
    if isinstance(part, np.ndarray) or hasattr(part, "convert"):
        return "image", part
    raise TypeError(
        f"a part of a question is {part!r:.80}; expected a text, an image, a Region, "
        "or a dict as {'image': 'a.png'}, {'audio': 'a.wav'} or {'box': (1, 2, 8, 9)}."
    )
