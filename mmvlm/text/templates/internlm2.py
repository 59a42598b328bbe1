"""InternLM2 chat."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES

from .chatml import ChatMLTemplate


@CHAT_TEMPLATES.register_module(name="internlm2")
class InternLM2Template(ChatMLTemplate):
    """ChatML behind the tokenizer's BOS, no default system text."""

    name = "internlm2"
