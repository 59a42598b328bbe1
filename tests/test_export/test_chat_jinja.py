"""Chat templates as Jinja text."""

import pytest
from export_helpers import PlainTalk

from mmvlm.export.chat_jinja import to_jinja
from mmvlm.text.templates.base import Piece


class Numbered(PlainTalk):
    def render(self, conversation, *, add_generation_prompt=False):
        return [Piece(f"{i}:{t.text}") for i, t in enumerate(conversation.turns)]


class Shouting(PlainTalk):
    def render(self, conversation, *, add_generation_prompt=False):
        return [Piece(turn.text.upper()) for turn in conversation.turns]


class Quoting(PlainTalk):
    def render(self, conversation, *, add_generation_prompt=False):
        pieces = super().render(
            conversation, add_generation_prompt=add_generation_prompt
        )
        return [Piece('{{ "x" }}\\n \n'), *pieces]


def apply(jinja, messages, **kwargs):
    from jinja2 import Environment

    return Environment().from_string(jinja).render(messages=messages, **kwargs)


def test_jinja_shows_images_first_and_opens_the_answer():
    content = [dict(type="text", text="What?"), dict(type="image")]
    text = apply(
        to_jinja(PlainTalk()),
        [dict(role="user", content=content)],
        add_generation_prompt=True,
    )
    assert text == "USER: <image>\nWhat? ASSISTANT:"


def test_jinja_takes_a_system_message():
    messages = [dict(role="system", content="S."), dict(role="user", content="Q")]
    assert apply(to_jinja(PlainTalk()), messages) == "S. USER: Q"


def test_jinja_keeps_characters_that_mean_something_to_jinja():
    text = apply(to_jinja(Quoting()), [dict(role="user", content="Q")])
    assert text == '{{ "x" }}\\n \nUSER: Q'


@pytest.mark.parametrize(
    ("template", "message"),
    [(Numbered, "differs from round to round"), (Shouting, "lost: 'turnAA'")],
)
def test_irregular_templates_are_refused(template, message):
    with pytest.raises(ValueError, match=message):
        to_jinja(template())
