"""What encoder-decoders read and write: plain texts that end with EOS."""

from __future__ import annotations

from typing import Any

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation

from .base import (
    ChatTemplate,
    Piece,
    PieceBuilder,
    check_alternation,
    split_system,
    write_parts,
)


@CHAT_TEMPLATES.register_module(name="encoder_decoder")
class EncoderDecoderTemplate(ChatTemplate):
    r"""``{bos}{question}{eos}`` and ``{pad}{bos}{answer}{eos}``.

    What stands before the last answer is the encoder's, and that answer the decoder's
    (see :class:`Seq2SeqEncoder`). BOS stands where the tokenizer has one (BART, not
    T5). The decoder's padding token takes the place of the one that opens replies,
    which the model puts in.

    Args:
        user_prefix, assistant_prefix (str): before turns of the encoder's stream.
        separator (str): between them, and behind a system text.
        image_prefix, image_suffix (str): text around images.
    """

    name = "encoder_decoder"
    adds_bos = False
    is_encoder_decoder = True

    def __init__(
        self,
        user_prefix: str = "",
        assistant_prefix: str = "",
        separator: str = "\n",
        image_prefix: str = "",
        image_suffix: str = "",
    ) -> None:
        self.prefixes = dict(user=user_prefix, assistant=assistant_prefix)
        self.separator = separator
        self.around = dict(image_prefix=image_prefix, image_suffix=image_suffix)

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Check that the tokenizer can end and pad texts.

        Raises:
            ValueError: naming what it lacks.
        """
        for name in ("eos", "pad"):
            if getattr(tokenizer, f"{name}_token_id") is None:
                raise ValueError(
                    f"{self.label}: {type(tokenizer).__name__} has no {name}_token; "
                    "set one in the config of the tokenizer."
                )

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of both streams, or of an answer that stands alone.

        Raises:
            ValueError: naming the sample, when roles do not alternate.
        """
        system, turns = split_system(conversation)
        sample = conversation.id
        if system is not None or [turn.role for turn in turns] != ["assistant"]:
            check_alternation(turns, sample, add_generation_prompt)
        answer = turns.pop() if turns[-1].role == "assistant" else None
        out = PieceBuilder()
        if turns:
            out.token("bos")
            if system is not None:
                out.text(f"{system}{self.separator}", said=True)
            for number, turn in enumerate(turns):
                between = self.separator if number else ""
                out.text(f"{between}{self.prefixes[turn.role]}")
                write_parts(out, turn, sample, supervised=False, **self.around)
            out.token("eos")
        if answer is not None or add_generation_prompt:
            out.token("pad")
        if answer is not None:
            supervised = answer.is_supervised
            out.token("bos", supervised)
            write_parts(out, answer, sample, supervised=supervised, **self.around)
            out.token("eos", supervised)
        return out.done()
