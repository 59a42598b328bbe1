"""Our chat template as the Jinja text that transformers wants.

A template is code here and text there. What it puts before, between and behind
the turns is found by rendering marked turns, and the Jinja text is then held
against the template on other conversations.
"""

from __future__ import annotations

import json

from mmvlm.structures import Conversation
from mmvlm.text.templates.base import ChatTemplate

IMAGE_TOKEN = "<image>"
#: What stands between a picture and the question, as LLaVA's data has it.
IMAGE_TEXT = f"{IMAGE_TOKEN}\n"
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


def to_jinja(template: ChatTemplate) -> str:
    """Write a chat template as Jinja text.

    Raises:
        ValueError: when the text between turns is not the same in every round,
            or Jinja renders another string than the template.

    """
    marks = ["turnAA", "turnBB", "turnCC", "turnDD", "turnEE", "turnFF"]
    between = _split(rendered(template, marks), marks, template)
    first, answer, following, answer2, following2, answer3, end = between
    if (answer, following, answer) != (answer2, following2, answer3):
        raise ValueError(
            f"{type(template).__name__}: what it writes between turns differs from "
            f"round to round ({between}); it has no Jinja counterpart."
        )
    opened = rendered(template, marks[:1], prompt=True)
    told = rendered(template, marks[:1], prompt=True, system="systemZZ")
    head, tail, _ = _split(told, ["systemZZ", marks[0]], template)
    fields = dict(
        first=first,
        system_head=head,
        system_tail=tail,
        next=following,
        answer=answer,
        end=end,
        prompt=_split(opened, marks[:1], template)[1],
        image=IMAGE_TEXT,
    )
    jinja = _BODY
    for name, text in fields.items():
        jinja = jinja.replace(f"@{name}@", json.dumps(text, ensure_ascii=False))
    for texts, system in (
        (["Which colour?"], None),
        (["How many?", "Three."], None),
        (["How many?", "Three.", "And now?"], "Be brief."),
        (["a b", "c d", "e", "f g", "h", "i."], "Be kind."),
    ):
        ask = len(texts) % 2 == 1
        expected = rendered(template, texts, prompt=ask, system=system)
        got = _apply(jinja, texts, prompt=ask, system=system)
        if expected != got:
            raise ValueError(
                f"{type(template).__name__}: as Jinja it renders {got!r}, expected "
                f"{expected!r}."
            )
    return jinja


def rendered(
    template: ChatTemplate,
    texts: list[str],
    prompt: bool = False,
    system: str | None = None,
) -> str:
    """Render alternating texts to one string, pictures as ``<image>``."""
    talk = Conversation.from_texts(*texts, system=system)
    pieces = template.render(talk, add_generation_prompt=prompt)
    return "".join(p.text if p.image is None else IMAGE_TOKEN for p in pieces)


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
