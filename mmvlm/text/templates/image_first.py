"""Templates of Flamingo's and CogVLM's families: images, then the question."""

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
    image_marks = ("### Image:\n", "\n\n")


@CHAT_TEMPLATES.register_module(name="cogvlm_vqa")
class CogVLMVQATemplate(DelimitedTemplate):
    """``{image}Question: {question} Short answer: {answer}</s>``."""

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
    """CogVLM 1.1: ``{image}Question: {question} Answer: {answer}</s>``."""

    name = "cogvlm_chat"
    images_first = True
    marks = Marks(
        user_open="Question: ",
        user_close=" Answer:",
        answer_open="",
        answer_lead=" ",
        end_mark="</s>",
    )


@CHAT_TEMPLATES.register_module(name="lavin")
class LaVINTemplate(DelimitedTemplate):
    """``Image: {image}``, then ``Instruction:`` and ``Response:`` (LaVIN)."""

    name = "lavin"
    images_first = True
    marks = Marks(
        user_open="Instruction: ",
        user_close="\n",
        answer_open="Response:",
        answer_lead=" ",
        end_mark="</s>",
        between="\n",
    )
    image_marks = ("Image: ", "\n")


@CHAT_TEMPLATES.register_module(name="ds_visualchat")
class VisualChatTemplate(DelimitedTemplate):
    """Sections ``### Image k:``, ``### Question:`` and ``### Answer:``, numbered.

    The spelling of the system section is the released one.
    """

    name = "ds_visualchat"
    images_first = True
    images_close = "\n"
    marks = Marks(
        user_open="### Question:\n",
        user_close="\n\n",
        answer_open="### Answer:\n",
        end_mark="</s>",
        between="\n\n",
        system_open="### System instuction:\n",
        system_close="\n\n",
        system=(
            "You are a helpful language and vision assistant. You are able to "
            "understand the visual content that the user provides, and assist the "
            "user with a variety of tasks using natural language."
        ),
    )

    def _image_marks(self, index: int) -> tuple[str, str]:
        return f"### Image {index + 1}:\n", "\n"
