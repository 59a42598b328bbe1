"""Conversations to the two streams of an encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from mmvlm.structures import Conversation, EncodedSample

from .encoding import ConversationEncoder, Lengths


class Seq2SeqEncoder(ConversationEncoder):
    """Encode questions for the encoder and the last answer for the decoder.

    Args:
        template (ChatTemplate): one with ``is_encoder_decoder``.
        tokenizer (Any): a transformers tokenizer, slow or fast.
        **options: see :class:`ConversationEncoder`.
    """

    def __call__(
        self,
        conversations: Sequence[Conversation],
        lengths: Sequence[Lengths],
        *,
        add_generation_prompt: bool = False,
    ) -> list[EncodedSample]:
        """Encode a batch; see :meth:`ConversationEncoder.__call__`.

        Returns:
            list[EncodedSample]: what the encoder reads, nothing of it trained, with the
            decoder's stream in ``answer``; that is its first position alone with
            ``add_generation_prompt``.

        Raises:
            ValueError: naming the sample, also when there is no answer to train, or
                one that shows images.
        """
        prompts, answers = conversations, []
        if not add_generation_prompt:
            prompts = [_part(c, slice(None, -1)) for c in conversations]
            answers = [_part(c, slice(-1, None)) for c in conversations]
        encoded = super().__call__(prompts, lengths, add_generation_prompt=True)
        written = super().__call__(answers, [{}] * len(answers))
        return [
            replace(sample.cut(len(sample) - 1), answer=answer or _opening(sample))
            for sample, answer in zip_longest(encoded, written)
        ]


def _opening(prompt: EncodedSample) -> EncodedSample:
    """Return the position that opens an answer, the last of a prompt."""
    return EncodedSample(prompt.input_ids[-1:], prompt.labels[-1:])


def _part(conversation: Conversation, turns: slice) -> Conversation:
    """Return the prompt or the answer of a conversation to be trained."""
    if len(conversation.turns) < 2 or conversation.turns[-1].role != "assistant":
        raise ValueError(
            f"sample '{conversation.id}': an encoder-decoder is trained on a question "
            f"and an answer, got turns {[turn.role for turn in conversation.turns]}."
        )
    return replace(conversation, turns=conversation.turns[turns])
