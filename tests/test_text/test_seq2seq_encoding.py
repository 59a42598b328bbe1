"""Questions go into the encoder's stream, the last answer into the decoder's."""

import numpy as np
import pytest

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.transforms.conversation import EncodeConversation
from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
from mmvlm.structures import (
    IGNORE_INDEX,
    Conversation,
    FixedTokenCount,
    Text,
    Turn,
    ViewLayout,
)
from mmvlm.text.encoding import SampleDropped

LAYOUT = ViewLayout((8, 8), (8, 8))


def encode(*texts, images=(), system=None, options=None, pipeline=None, keep=None):
    template = CHAT_TEMPLATES.build(dict(type="encoder_decoder", **(options or {})))
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer"))
    context = VLMProcessor(tokenizer, template, token_count=FixedTokenCount(4))
    transform = EncodeConversation(**(pipeline or {}))
    transform.bind(context)
    talk = Conversation.from_texts(*texts, images=images, system=system)
    talk.turns = keep or talk.turns
    item = dict(conversation=talk, layouts=[LAYOUT] * len(images), index=7)
    (length,) = transform.lengths([dict(item)])
    out = transform(item)
    streams = out["encoded"], out["encoded_answer"]
    assert length == sum(map(len, streams))
    return (
        out,
        *streams,
        [tokenizer.decode(one.input_ids[one.input_ids >= 0]) for one in streams],
    )


def test_an_answer_is_trained_behind_its_opening():
    out, prompt, answer, shown = encode("Colour?", "Red.", images=["a.png"])
    assert shown == ["<s>\nColour?</s>", "<pad><s>Red.</s>"]
    assert (prompt.labels == IGNORE_INDEX).all() and not out["dropped_labels"]
    assert answer.labels[0] == IGNORE_INDEX
    assert np.array_equal(answer.labels[1:], answer.input_ids[1:])
    assert [(slot.start, slot.length) for slot in prompt.slots] == [(1, 4)]
    assert answer.slots == []


def test_earlier_turns_are_read():
    options = dict(user_prefix="Q: ", assistant_prefix="A: ", separator=" ")
    texts = ("a?", "b.", "c?", "d.")
    _, prompt, _, shown = encode(*texts, system="S.", options=options)
    assert shown == ["<s>S. Q: a? A: b. Q: c?</s>", "<pad><s>d.</s>"]
    assert (prompt.labels == IGNORE_INDEX).all()


def test_a_prompt_opens_an_answer():
    out, _, answer, shown = encode("a?", "b.", pipeline=dict(mode="generate"))
    assert shown == ["<s>a?</s>", "<pad>"] and out["gt_text"] == "b."
    assert (answer.labels == IGNORE_INDEX).all()


def test_what_is_said_ends_nothing():
    _, prompt, answer, shown = encode("is </s> the end?", "<pad></s>")
    assert shown == ["<s>is </s> the end?</s>", "<pad><s><pad></s></s>"]
    ends = [(one.input_ids == 2).sum() for one in (prompt, answer)]
    assert ends == [1, 1]


def test_long_answers_are_cut_and_long_questions_refused():
    cut = dict(max_length=12, overflow="truncate_text")
    out, _, answer, shown = encode("abcd", "efghijk", pipeline=cut)
    assert shown == ["<s>abcd</s>", "<pad><s>efgh"] and out["truncated_tokens"] == 4
    assert len(answer.labels) == 6
    with pytest.raises(SampleDropped, match="leaves no trained token"):
        encode("abcdefghijklm", "n", pipeline=cut)


def test_untrained_answers_are_counted():
    turns = [Turn("user", (Text("a"),)), Turn("assistant", (Text("b"),), False)]
    out, _, answer, _ = encode("a", keep=turns)
    assert out["dropped_labels"] and (answer.labels == IGNORE_INDEX).all()


def test_what_cannot_be_trained_is_named():
    with pytest.raises(ValueError, match=r"trained on a question and an answer, got"):
        encode("a question")
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer"))
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="has no pad_token"):
        CHAT_TEMPLATES.build(dict(type="encoder_decoder")).check_tokenizer(tokenizer)
