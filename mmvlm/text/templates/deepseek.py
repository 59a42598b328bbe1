"""DeepSeek chat."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks


@CHAT_TEMPLATES.register_module(name="deepseek")
class DeepSeekTemplate(DelimitedTemplate):
    r"""``User: {question}\n\nAssistant: {answer}`` and DeepSeek's EOS."""

    name = "deepseek"
    marks = Marks(
        user_open="User: ",
        user_close="\n\n",
        answer_open="Assistant:",
        answer_lead=" ",
        # Full-width bars and sentencepiece's space mark, as the token is spelt.
        end_mark="<\uff5cend\u2581of\u2581sentence\uff5c>",
        system_close="\n\n",
    )
