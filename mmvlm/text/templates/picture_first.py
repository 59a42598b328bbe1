"""Templates of Flamingo's and CogVLM's families: pictures, then the question."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES

from .delimited import DelimitedTemplate, Marks


@CHAT_TEMPLATES.register_module(name="openflamingo")
class OpenFlamingoTemplate(DelimitedTemplate):
    """``<image>Question:{question} Short answer:{answer}<|endofchunk|>``."""

    name = "openflamingo"
    images_first = True
    marks = Marks(
        user_open="Question:",
        user_close=" Short answer:",
        answer_open="",
        end_mark="<|endofchunk|>",
    )


@CHAT_TEMPLATES.register_module(name="multimodal_gpt")
class MultimodalGPTTemplate(DelimitedTemplate):
    """Alpaca's header, then sections ``### Image:``, ``### Instruction:`` and so on.

    Only the response is trained, with its end mark ``### End.`` and EOS.

    Args:
        system (str | None): the header; None keeps Alpaca's.
        end_mark (str | None): what ends a response.
        image_prefix, image_suffix (str): around every picture.

    """

    name = "multimodal_gpt"
    images_first = True
    end_is_token = False
    marks = Marks(
        user_open="### Instruction:\n",
        user_close="\n\n",
        answer_open="### Response:\n",
        end_mark="### End.</s>",
        between="\n\n",
        system=(
            "Below is an instruction that describes a task. Write a response that "
            "appropriately completes the request."
        ),
        system_close="\n\n",
    )

    def __init__(
        self,
        system: str | None = None,
        end_mark: str | None = None,
        image_prefix: str = "### Image:\n",
        image_suffix: str = "\n\n",
    ) -> None:
        super().__init__(system, end_mark, image_prefix, image_suffix)


@CHAT_TEMPLATES.register_module(name="cogvlm_vqa")
class CogVLMVQATemplate(DelimitedTemplate):
    """``{picture}Question: {question} Short answer: {answer}</s>``."""

    name = "cogvlm_vqa"
    images_first = True
    marks = Marks(
        user_open="Question: ",
        user_close=" Short answer:",
        answer_open="",
        answer_lead=" ",
        end_mark="</s>",
    )


@CHAT_TEMPLATES.register_module(name="cogvlm_chat")
class CogVLMChatTemplate(DelimitedTemplate):
    """CogVLM 1.1: ``{picture}Question: {question} Answer: {answer}</s>``."""

    name = "cogvlm_chat"
    images_first = True
    marks = Marks(
        user_open="Question: ",
        user_close=" Answer:",
        answer_open="",
        answer_lead=" ",
        end_mark="</s>",
    )
