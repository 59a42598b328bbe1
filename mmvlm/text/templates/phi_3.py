"""Phi-3 chat."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks


@CHAT_TEMPLATES.register_module(name=["phi_3", "phi-3"])
class Phi3Template(DelimitedTemplate):
    r"""``<|user|>\n{question}<|end|>\n<|assistant|>\n{answer}<|end|>\n``."""

    name = "phi_3"
    frame_tokens = ("<|user|>", "<|assistant|>")
    marks = Marks(
        user_open="<|user|>\n",
        user_close="<|end|>\n",
        answer_open="<|assistant|>\n",
        end_mark="<|end|>",
        answer_close="\n",
        system_open="<|system|>\n",
        system_close="<|end|>\n",
    )
