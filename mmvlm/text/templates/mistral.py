"""Mistral instruct, as Mistral's own tokenizers write it."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks


@CHAT_TEMPLATES.register_module(name="mistral")
class MistralTemplate(DelimitedTemplate):
    """``[INST] {question} [/INST] {answer}</s>[INST] ...``.

    LLaVA's variant, with a space before ``</s>``, is ``mistral_instruct``.
    """

    name = "mistral"
    marks = Marks(
        user_open="[INST] ",
        user_close=" [/INST]",
        answer_open="",
        answer_lead=" ",
        end_mark="</s>",
        system_close="\n\n",
        system_in_user=True,
    )
