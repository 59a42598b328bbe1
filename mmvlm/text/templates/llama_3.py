"""Llama-3 chat."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks

_HEADER = "<|start_header_id|>{role}<|end_header_id|>\n\n"


@CHAT_TEMPLATES.register_module(name=["llama_3", "llama-3"])
class Llama3Template(DelimitedTemplate):
    r"""``<|start_header_id|>user<|end_header_id|>\n\n{question}<|eot_id|>...``."""

    name = "llama_3"
    frame_tokens = ("<|start_header_id|>", "<|end_header_id|>")
    marks = Marks(
        user_open=_HEADER.format(role="user"),
        user_close="<|eot_id|>",
        answer_open=_HEADER.format(role="assistant"),
        end_mark="<|eot_id|>",
        system_open=_HEADER.format(role="system"),
        system_close="<|eot_id|>",
    )
