"""Gemma chat."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks


@CHAT_TEMPLATES.register_module(name="gemma")
class GemmaTemplate(DelimitedTemplate):
    r"""``<start_of_turn>user\n{question}<end_of_turn>\n<start_of_turn>model\n...``.

    Gemma has no system role: the text stands at the head of the first question.
    """

    name = "gemma"
    frame_tokens = ("<start_of_turn>",)
    marks = Marks(
        user_open="<start_of_turn>user\n",
        user_close="<end_of_turn>\n",
        answer_open="<start_of_turn>model\n",
        end_mark="<end_of_turn>",
        answer_close="\n",
        system_close="\n\n",
        system_in_user=True,
    )
