"""The caption template of alignment training: an image, its caption, nothing else."""

from __future__ import annotations

from typing import Any

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation, Image, Media, Turn

from .base import ChatTemplate, Piece, PieceBuilder, split_system, write_parts


@CHAT_TEMPLATES.register_module(name=["plain", "v0_plain"])
class PlainTemplate(ChatTemplate):
    r"""Image, caption, line break.

    The question's words are left out by design, only its images stay: the
    language model learns to say the caption right after the image. The line
    break ends a caption; there is no EOS.

    Args:
        end_mark (str): what ends a caption, trained.
        require_image (bool): refuse a question without an image, as LLaVA
            does. False also allows text alone (language-model pretraining),
            with or without a question turn.
        image_prefix, image_suffix (str): text around images inside captions;
            LLaVA drops it around the image of the question.
        frame_question (bool): write it around the image of the question too
            (Qwen-VL: ``<img>...</img>`` before the caption).
    """

    name = "plain"
    llava_version = "plain"
    #: It renders no text alone, unless it is told so.
    captions_only = True

    def __init__(
        self,
        end_mark: str = "\n",
        require_image: bool = True,
        image_prefix: str = "",
        image_suffix: str = "",
        frame_question: bool = False,
    ) -> None:
        self.frame_question = frame_question
        self.end_mark = end_mark
        self.require_image = require_image
        self.image_prefix = image_prefix
        self.image_suffix = image_suffix
        self.stop_strings = (end_mark,) if end_mark else ()

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Accept every tokenizer: captions end with text, not with a token."""

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of the image and its caption.

        Raises:
            ValueError: naming the sample, when it is not one question with an
                image and (unless a prompt is wanted) one answer.
        """
        _, turns = split_system(conversation)
        roles = [turn.role for turn in turns]
        wanted = ["user"] if add_generation_prompt else ["user", "assistant"]
        if roles != wanted and (self.require_image or roles != wanted[1:]):
            raise ValueError(
                f"sample '{conversation.id}': {self.label} takes turns {wanted}, "
                f"got {roles}."
            )
        out = PieceBuilder()
        if roles[0] == "user":
            shown = (Image, Media)
            images = tuple(p for p in turns[0].parts if isinstance(p, shown))
            if not images and self.require_image:
                raise ValueError(
                    f"sample '{conversation.id}': {self.label} needs an <image> in "
                    f"the question, got {turns[0].text!r:.80}."
                )
            framed = self.frame_question
            write_parts(
                out,
                Turn("user", images),
                conversation.id,
                supervised=False,
                image_prefix=self.image_prefix if framed else "",
                image_suffix=self.image_suffix if framed else "",
            )
        if roles[-1] == "assistant":
            supervised = turns[-1].is_supervised
            write_parts(
                out,
                turns[-1],
                conversation.id,
                supervised=supervised,
                image_prefix=self.image_prefix,
                image_suffix=self.image_suffix,
            )
            out.text(self.end_mark, supervised)
        return out.done()
