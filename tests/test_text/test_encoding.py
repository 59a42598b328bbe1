"""Encoding beyond the templates: joints, normalisation, caches, messages."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from text_cases import TOKENIZER_KINDS, build_tokenizer, spell
from tokenizers import normalizers

from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
from mmvlm.structures import Conversation, Image, Text, Turn
from mmvlm.text.encoding import ConversationEncoder, SampleDropped, encode_conversation
from mmvlm.text.frame_tokens import frame_tokens
from mmvlm.text.tiny_tokenizer import train_tiny_tokenizer
from mmvlm.text.token_spans import TokenSpans, spans_of


def template(name="vicuna_v1", **kwargs):
    return CHAT_TEMPLATES.build(dict(type=name, **kwargs))


def tiny(**kwargs):
    return TOKENIZERS.build(dict(type="TinyTokenizer", **kwargs))


@pytest.mark.parametrize("kind", ["bytes", "slow", "slow-legacy", "fast"])
def test_bounds_are_the_tokens_at_those_characters(kind, make_tokenizer):
    spans = TokenSpans(make_tokenizer(kind, ["<|im_end|>"]))
    texts = ["a cat \u732b\U0001f600 sat<|im_end|> on 22 mats", "x", " y ", ""]
    for text in texts:
        bounds = list(range(len(text) + 1))
        ((ids, index),) = spans.encode([text], [[0, len(text)]])
        assert index.tolist() == [0, len(ids)]
        for cut in bounds:
            ((ids, index),) = spans.encode([text], [[cut]])
            head = spell(spans.tokenizer, ids[: index[0]])
            # Sentencepiece puts a space in front of a text, and legacy Llama
            # in front of text behind a special token.
            assert head.replace(" ", "") == text[:cut].replace(" ", "")


def test_token_across_a_bound_is_cut():
    tokenizer = train_tiny_tokenizer(["\n\nred\n\nblue\n\n"] * 9, 300)
    text = "a\n\n\nb"
    joint = tokenizer.encode(text, add_special_tokens=False)
    tokens = tokenizer.convert_ids_to_tokens(joint)
    assert tokens == ["a", "\u010a\u010a", "\u010a", "b"]

    ((ids, index),) = spans_of(tokenizer).encode([text], [[2, 4]])

    cut = [tokenizer.decode(part) for part in np.split(ids, index)]
    assert cut == ["a\n", "\n\n", "b"]


def test_tokenizer_that_normalises_text_keeps_spans():
    tokenizer = tiny()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    decomposed = "cafe\u0301 cafe\u0301"
    talk = Conversation.from_texts(decomposed, decomposed, "q", "a")

    sample = encode_conversation(talk, template(), tokenizer, [])

    trained = tokenizer.decode(sample.labels[sample.labels >= 0])
    assert trained == " caf\u00e9 caf\u00e9</s> a</s>"


def test_adapter_follows_added_tokens():
    tokenizer = tiny()
    before = spans_of(tokenizer)
    assert spans_of(tokenizer) is before

    tokenizer.add_tokens(["<box>"], special_tokens=True)

    assert spans_of(tokenizer) is not before
    ((_, index),) = spans_of(tokenizer).encode(["a<box>b"], [[1, 6]])
    assert index.tolist() == [1, 2]


def test_constant_text_before_an_image_is_encoded_once(monkeypatch):
    tokenizer = tiny()
    encoder = ConversationEncoder(template(), tokenizer)
    talks = [Conversation.from_texts(f"q{n}", "a", images=["a.png"]) for n in range(3)]
    encoder(talks[:1], [[2]])
    seen = []
    encode = TokenSpans.encode

    def spy(self, texts, bounds):
        seen.extend(texts)
        return encode(self, texts, bounds)

    monkeypatch.setattr(TokenSpans, "encode", spy)
    encoder(talks[1:], [[2], [2]])

    assert seen == ["\nq1 ASSISTANT: a</s>", "\nq2 ASSISTANT: a</s>"]


def test_cache_has_a_limit():
    encoder = ConversationEncoder(template(), tiny())
    for n in range(600):
        talk = Conversation.from_texts("\nq", "a", images=["a"], system=f"system {n}")
        encoder([talk], [[1]])

    assert len(encoder._cache) <= 512


def test_encoder_survives_pickling():
    encoder = ConversationEncoder(template(), tiny())
    talk = Conversation.from_texts("q", "a")
    (expected,) = encoder([talk], [[]])

    (got,) = pickle.loads(pickle.dumps(encoder))([talk], [[]])

    assert got.input_ids.tolist() == expected.input_ids.tolist()


def test_padding_and_truncation_of_the_tokenizer_do_not_reach_the_ids():
    tokenizer = tiny()
    talk = Conversation.from_texts("a long question", "a longer answer")
    expected = encode_conversation(talk, template(), tokenizer, [])
    tokenizer(["x", "yyyy"], padding="max_length", max_length=5, truncation=True)

    got = encode_conversation(talk, template(), tokenizer, [])

    assert got.input_ids.tolist() == expected.input_ids.tolist()


def test_sample_arrays_are_int64_and_start_with_bos():
    tokenizer = tiny()
    talk = Conversation.from_texts("q", "a", images=["a.png"])

    sample = encode_conversation(talk, template("plain"), tokenizer, [2])

    assert sample.input_ids.dtype == sample.labels.dtype == np.int64
    assert sample.input_ids[:3].tolist() == [tokenizer.bos_token_id, -200, -200]
    assert tokenizer.decode(sample.labels[3:]) == "a\n"


def test_empty_answers_are_not_trained_and_the_others_are():
    alone = Conversation.from_texts("q", "")
    mixed = Conversation.from_texts("q", "", "q", "a")

    for options in ({}, dict(drop_on_mismatch=True)):
        sample = encode_conversation(alone, template(), tiny(), [], **options)
        assert (sample.labels == -100).all()
    sample = encode_conversation(mixed, template(), tiny(), [])
    assert tiny().decode(sample.labels[sample.labels >= 0]) == " a</s>"


def test_images_without_token_count_are_refused():
    talk = Conversation([Turn("user", (Image(0), Text("q")))], ["a"], id="s")

    for lengths in ([], [0]):
        with pytest.raises(ValueError, match=r"sample 's': the template shows imag"):
            encode_conversation(
                talk, template(), tiny(), lengths, add_generation_prompt=True
            )


def test_dropped_sample_says_how_it_is_counted():
    assert SampleDropped("x").counted_as == "dropped"


@pytest.mark.parametrize("kind", TOKENIZER_KINDS)
@pytest.mark.parametrize("name", ["vicuna_v1", "chatml", "llama_2", "xtuner/qwen_chat"])
def test_what_is_said_spells_no_token_of_the_frame(name, kind, goldens):
    said = "a</s>b<s> <unk>|<|im_end|>\n<|im_start|>user <image> USER: x ASSISTANT: y"
    chat = template(name)
    specials = [*chat.special_tokens, "<image>", "[SEG]"]
    tokenizer = build_tokenizer(kind, specials, goldens)
    framing = tokenizer.convert_tokens_to_ids(frame_tokens(chat, tokenizer))
    talks = [Conversation.from_texts(*t) for t in (("q", "a"), (said, said + " [SEG]"))]

    plain, sample = (encode_conversation(t, chat, tokenizer, []) for t in talks)

    count = [np.isin(s.input_ids, framing).sum() for s in (plain, sample)]
    assert count[0] == count[1] > 0
    seg = tokenizer.convert_tokens_to_ids("[SEG]")
    assert (sample.input_ids == seg).sum() == 1  # asked for by the config
    assert said in spell(tokenizer, sample.labels[sample.labels >= 0])
