"""Our chat template as the Jinja text that transformers wants.

A template is code here and text there. What it puts before, between and behind
the turns is found by rendering marked turns, and the Jinja text is then held
against the template on other conversations.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial
from typing import Any

from mmengine.logging import print_log

from mmvlm.structures import Conversation, Image, Text
from mmvlm.text.templates.base import ChatTemplate, Piece

IMAGE_TOKEN = "<image>"
_NO_SYSTEM = "raise_exception('this template has no place for a system text')"
_BODY = """\
{%- macro content_of(message) -%}
{%- if message['content'] is string -%}{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'image' -%}\
{{ @image@ }}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}\
{{ part['text'] }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- set opening = @first@ -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set opening = @system_head@ + content_of(messages[0]) + @system_tail@ -%}
{%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{%- if loop.first -%}{{ opening }}{%- else -%}{{ @next@ }}{%- endif -%}
{%- elif message['role'] == 'assistant' -%}{{ @answer@ }}
{%- else -%}{{ raise_exception('expected roles user and assistant') }}
{%- endif -%}
{{ content_of(message) }}
{%- if loop.last and message['role'] == 'assistant' -%}{{ @end@ }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ @prompt@ }}{%- endif -%}"""


def to_jinja(template: ChatTemplate, tokenizer: Any = None) -> str:
    """Write a chat template as Jinja text.

    The BOS that a template writes as a token is left to a tokenizer that adds it by
    itself, as transformers adds it to rendered text once more.

    Args:
        template (ChatTemplate): to be written.
        tokenizer (Any): gives the text of BOS and EOS where the template names
            them as tokens.

    Raises:
        ValueError: when the text between turns is not the same in every round,
            or Jinja renders another string than the template.
    """
    marks = ["turnAA", "turnBB", "turnCC", "turnDD", "turnEE", "turnFF"]
    write = partial(rendered, template, tokenizer)
    between = _split(write(marks), marks, template)
    first, answer, following, answer2, following2, answer3, end = between
    if (answer, following, answer) != (answer2, following2, answer3):
        raise ValueError(
            f"{type(template).__name__}: what it writes between turns differs from "
            f"round to round ({between}); it has no Jinja counterpart."
        )
    opened = write(marks[:1], prompt=True)
    head, tail = _system(write, template)
    shown = _split(write(marks[:1], prompt=True, image=True), marks[:1], template)[0]
    if not (shown.startswith(first) and IMAGE_TOKEN in shown):
        raise ValueError(
            f"{type(template).__name__}: does not show an image in front of the "
            "question; it has no Jinja counterpart."
        )
    # A template that leaves BOS to the tokenizer writes none of its own: what opens
    # its text is a literal one, and stays.
    added = leading_bos(tokenizer)
    bos = "" if template.adds_bos else added
    if added and first.removeprefix(bos).startswith(added):
        print_log(
            f"{type(template).__name__}: prompts open with the tokenizer's {added!r} "
            "and with one written out. A processor leaves one out in "
            "apply_chat_template(tokenize=True): render the text and give that to "
            "processor(text=...).",
            logger="current",
            level=logging.WARNING,
        )
    fields = dict(
        first=first.removeprefix(bos),
        system_head=None if head is None else head.removeprefix(bos),
        system_tail=tail,
        next=following,
        answer=answer,
        end=end,
        prompt=_split(opened, marks[:1], template)[1],
        image=shown[len(first) :],
    )
    jinja = _BODY
    for name, text in fields.items():
        literal = _NO_SYSTEM if text is None else json.dumps(text, ensure_ascii=False)
        jinja = jinja.replace(f"@{name}@", literal)
    for texts, system in (
        (["Which colour?"], None),
        (["How many?", "Three."], None),
        (["How many?", "Three.", "And now?"], "Be brief."),
        (["a b", "c d", "e", "f g", "h", "i."], "Be kind."),
    ):
        ask, system = len(texts) % 2 == 1, None if head is None else system
        expected = write(texts, prompt=ask, system=system).removeprefix(bos)
        got = _apply(jinja, texts, prompt=ask, system=system)
        if expected != got:
            raise ValueError(
                f"{type(template).__name__}: as Jinja it renders {got!r}, expected "
                f"{expected!r}."
            )
    return jinja


def leading_bos(tokenizer: Any) -> str:
    """Return the text of BOS when a tokenizer puts it in front of every text."""
    bos = getattr(tokenizer, "bos_token_id", None)
    if bos is None or tokenizer("a")["input_ids"][:1] != [bos]:
        return ""
    return tokenizer.bos_token


def rendered(
    template: ChatTemplate,
    tokenizer: Any,
    texts: list[str],
    *,
    prompt: bool = False,
    system: str | None = None,
    image: bool = False,
) -> str:
    """Render alternating texts to one string, images as ``<image>``."""
    talk = Conversation.from_texts(*texts, system=system)
    if image:
        turn = talk.turns[-1]
        talk.turns[-1] = replace(turn, parts=(Image(0), Text("\n"), *turn.parts))
        talk.images.append("image")
    return as_text(template.render(talk, add_generation_prompt=prompt), tokenizer)


def as_text(pieces: list[Piece], tokenizer: Any) -> str:
    """Join rendered pieces, images as ``<image>``."""
    return "".join(_text(piece, tokenizer) for piece in pieces)


def _text(piece: Piece, tokenizer: Any) -> str:
    """Return the characters of a piece; named tokens as the tokenizer has them."""
    if piece.image is not None:
        return IMAGE_TOKEN
    if piece.token is None:
        return piece.text
    return getattr(tokenizer, f"{piece.token}_token", None) or ""


def _system(write: Any, template: ChatTemplate) -> tuple[str | None, str | None]:
    """Return what stands around a system text, None for a template without one."""
    try:
        rendered = write(["turnAA"], prompt=True, system="systemZZ")
    except ValueError:
        return None, None
    return tuple(_split(rendered, ["systemZZ", "turnAA"], template)[:2])


def _split(text: str, marks: list[str], template: ChatTemplate) -> list[str]:
    """Cut ``text`` at every mark, which must stand there once and in order."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise ValueError(
                f"{type(template).__name__}: does not write every turn's text as it "
                f"is (lost: {mark!r}); it has no Jinja counterpart."
            )
        parts.append(before)
    return [*parts, text]


def _apply(jinja: str, texts: list[str], prompt: bool, system: str | None) -> str:
    """Render Jinja text as transformers does (blocks trimmed, sandboxed)."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    messages = [] if system is None else [dict(role="system", content=system)]
    for number, text in enumerate(texts):
        role = "user" if number % 2 == 0 else "assistant"
        messages.append(dict(role=role, content=text))
    return environment.from_string(jinja).render(
        messages=messages, add_generation_prompt=prompt
    )
