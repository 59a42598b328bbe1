"""Tokenizers of every kind, able to write a given template."""

from __future__ import annotations

import pytest
from text_cases import CHATML_JINJA, build_tokenizer


@pytest.fixture(scope="session")
def make_tokenizer(goldens):
    """Build a tokenizer of a kind with these special tokens; kept for reuse."""
    cache = {}

    def make(kind, special_tokens=()):
        key = (kind, tuple(special_tokens))
        if key not in cache:
            cache[key] = build_tokenizer(kind, list(special_tokens), goldens)
            cache[key].chat_template = CHATML_JINJA
        return cache[key]

    return make
