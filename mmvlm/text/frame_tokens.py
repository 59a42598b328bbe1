"""Which tokens of a tokenizer frame turns, so that no turn may speak them."""

from __future__ import annotations

import re
from typing import Any

from mmvlm.structures import Conversation, Turn

from .templates.base import ChatTemplate

#: The tokenizer's own marks by the names that transformers gives them.
_NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
#: How chat models spell theirs.
_SHAPE = re.compile(r"<\|.*\|>")
#: What stands for an image in the vocabularies of other tools.
_PLACEHOLDERS = ("<image>", "<video>", "<audio>")


def frame_tokens(template: ChatTemplate, tokenizer: Any) -> list[str]:
    """Return the tokens that only a template may write, the longest first.

    These are the tokenizer's EOS and its like, what the template writes around turns
    and images, marks of the form ``<|...|>``, and placeholders of images. Tokens
    that a config adds for other ends (locations of a codec, ``[SEG]``) are not among
    them: answers must be able to say those. A codec that writes regions marks them as
    literal where somebody else spells them.

    Args:
        template (ChatTemplate): renders conversations.
        tokenizer (Any): a transformers tokenizer.
    """
    added = {t.content: t.special for t in tokenizer.added_tokens_decoder.values()}
    named = {getattr(tokenizer, f"{name}_token", None) for name in _NAMED}
    written = _frame(template)
    markup = getattr(tokenizer, "mmvlm_markup", ())
    found = [
        token
        for token, special in added.items()
        if len(token) > 1
        and (
            token in named
            or token in written
            or token in _PLACEHOLDERS
            or (special and token not in markup and _SHAPE.fullmatch(token))
        )
    ]
    return sorted(found, key=len, reverse=True)


def _frame(template: ChatTemplate) -> str:
    """Return all text that a template writes around one question and its answer."""
    talk = Conversation.from_texts("q", "a", images=["a.png"])
    systems = [Turn("system", talk.turns[1].parts)]
    texts = [*template.special_tokens, *template.stop_strings]
    for turns in (talk.turns, systems + talk.turns):
        try:
            pieces = template.render(Conversation(list(turns), talk.images))
        except ValueError:  # a template without system text
            continue
        texts += [piece.text for piece in pieces]
    return "\n".join(texts)
