"""Conversations as lists of messages: ``{"role", "content"}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmvlm.structures import Conversation, Image, Text, Turn

from .llava_format import IMAGE_TAG, read_weight

_ROLES = ("system", "user", "assistant")
_IMAGES = ("image", "image_url", "input_image")
_TEXTS = ("text", "input_text", "output_text")


def parse_messages(
    messages: Any,
    *,
    images: Sequence[Any],
    sample_id: str = "",
    meta: dict[str, Any] | None = None,
) -> Conversation:
    """Turn messages into turns.

    Contents are texts, whose ``<image>`` tags are images where the sample has any,
    or lists of ``{"type": "text", "text"}`` and ``{"type": "image"}``. Images stay
    where they stand; they are taken from ``images`` in order, whatever else a part
    says (an URL is never fetched).

    Args:
        messages (Any): the list.
        images (Sequence[Any]): the sample's images.
        sample_id (str): id of the conversation.
        meta (dict | None): its meta.

    A message's own ``weight``, ``loss``, ... is read as in LLaVA's format.

    Raises:
        ValueError: for something else than messages, another role, an unknown kind of
            content, a weight that is neither 0 nor 1, or more or fewer images than
            are shown.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError(f"expected a list of messages, got {messages!r:.80}.")
    shown, turns = 0, []
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise ValueError(
                f"message {number} must have a role of {list(_ROLES)}, got "
                f"{message!r:.80}."
            )
        parts: list[Text | Image] = []
        for text in _pieces(message.get("content"), number, bool(images)):
            if text is None:
                parts.append(Image(shown))
                shown += 1
            elif text:
                parts.append(Text(text))
        role = message["role"]
        trained = read_weight(message, role, f"message {number}")
        turns.append(Turn(role, tuple(parts) or (Text(""),), trained))
    if shown != len(images):
        raise ValueError(f"{shown} images in the messages but {len(images)} given.")
    return Conversation(turns, list(images), sample_id, dict(meta or {}))


def _pieces(content: Any, number: int, has_images: bool) -> list[str | None]:
    """Return texts in order, None for an image."""
    if isinstance(content, str):
        if not has_images:
            return [content]
        out: list[str | None] = []
        for count, text in enumerate(content.split(IMAGE_TAG)):
            out += [None, text] if count else [text]
        return out
    if not isinstance(content, list | tuple):
        raise ValueError(
            f"message {number}: content must be a text or a list of parts, got "
            f"{content!r:.80}."
        )
    out = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _IMAGES:
            out.append(None)
        elif kind in _TEXTS and isinstance(part.get("text"), str):
            out.append(part["text"])
        else:
            raise ValueError(
                f"message {number}: expected a part of type {_TEXTS[0]!r} or "
                f"{_IMAGES[0]!r}, got {part!r:.80}."
            )
    return out
