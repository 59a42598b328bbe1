"""Builders of tokenizers."""

from __future__ import annotations

import random

import pytest

from mmvlm.registry import TOKENIZERS
from mmvlm.text.tiny_tokenizer import train_tiny_tokenizer


def build(**kwargs):
    return TOKENIZERS.build(kwargs)


def random_text(rng):
    blocks = [(32, 127), (0, 32), (0x370, 0x600), (0x1F600, 0x1F640)]
    count = rng.randint(0, 40)
    return "".join(chr(rng.randrange(*rng.choice(blocks))) for _ in range(count))


@pytest.mark.parametrize("trained", [False, True])
def test_any_text_survives_encoding_and_decoding(trained):
    words = ["red", "circle", "blue", "how", "many"]
    tokenizer = (
        train_tiny_tokenizer(["how many red circles?"] * 3, 300)
        if trained
        else build(type="TinyTokenizer", words=words)
    )
    rng = random.Random(0)
    for text in ["", " red circle ", *(random_text(rng) for _ in range(200))]:
        ids = tokenizer.encode(text)

        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_words_are_one_token_alone_and_behind_a_space():
    words = ["red", "reddish", "dish", "is", "ed", "circle", "circles", "les", "R2"]
    words.remove("R2")
    for order in (words, words[::-1]):
        tokenizer = build(type="TinyTokenizer", words=order)
        for word in words:
            for form in (word, f" {word}"):
                assert len(tokenizer.encode(form, add_special_tokens=False)) == 1


def test_word_that_cannot_be_one_token_is_named():
    with pytest.raises(ValueError, match=r"TinyTokenizer: 'two words' cannot be one"):
        build(type="TinyTokenizer", words=["two words"])


def test_tiny_tokenizer_is_deterministic_and_has_its_tokens():
    first = build(type="TinyTokenizer", words=["red"], special_tokens=["<img>"])
    second = build(type="TinyTokenizer", words=["red"], special_tokens=["<img>"])

    assert first.get_vocab() == second.get_vocab()
    assert len(set(first.get_vocab().values())) == len(first) == 4 + 1 + 256 + 3
    names = ("pad", "bos", "eos", "unk")
    assert [getattr(first, f"{name}_token_id") for name in names] == [0, 1, 2, 3]
    ids = first.encode("a<img></s>", add_special_tokens=False)
    assert ids[1:] == [first.convert_tokens_to_ids("<img>"), first.eos_token_id]


def test_without_bos_nothing_is_put_in_front():
    assert len(build(type="TinyTokenizer", add_bos=False).encode("a")) == 1


def test_trained_tokenizer_is_deterministic_and_survives_saving(tmp_path):
    texts = ["a red circle and a blue square", "how many red circles are there?"] * 5
    first = train_tiny_tokenizer(texts, 285, ["<img>"], save_dir=tmp_path)
    second = train_tiny_tokenizer(texts, 285, ["<img>"])
    again = build(type="HFTokenizer", name_or_path=str(tmp_path))

    assert first.get_vocab() == second.get_vocab() == again.get_vocab()
    assert len(first) == 285
    for text in ("a red <img> circle</s>", "\u00e9\n"):
        assert first.encode(text) == second.encode(text) == again.encode(text)
    names = (again.bos_token, again.eos_token, again.pad_token)
    assert names == ("<s>", "</s>", "<pad>")


def test_vocabulary_without_room_is_refused():
    with pytest.raises(ValueError, match=r"vocab_size=100 .* give at least 260"):
        train_tiny_tokenizer(["a"], 100)


def test_hf_tokenizer_takes_its_options(goldens):
    options = dict(type="HFTokenizer", name_or_path=str(goldens / "llava_tokenizer"))

    slow = build(**options, use_fast=False, legacy=True, pad="unk")
    fast = build(
        **options,
        padding_side="left",
        pad="<pad>",
        additional_special_tokens=["<box>"],
        model_max_length=77,
        eos_token="<end>",
        chat_template="{{ messages }}",
    )

    assert slow.pad_token == "<unk>"
    assert getattr(slow, "legacy", True) is True
    assert fast.is_fast and fast.padding_side == "left" and fast.model_max_length == 77
    assert len(fast.encode("<box>", add_special_tokens=False)) == 1
    assert (fast.eos_token, fast.pad_token) == ("<end>", "<pad>")
    assert fast.chat_template == "{{ messages }}"


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"name_or_path='.*nowhere': no such f"):
        build(type="HFTokenizer", name_or_path=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"\(folder\): no tokenizer could be"):
        build(type="HFTokenizer", name_or_path=str(tmp_path))


def test_hub_name_without_network_says_what_to_do(monkeypatch):
    from transformers import AutoTokenizer

    def offline(*args, **kwargs):
        raise OSError("We couldn't connect to the hub.\nMore lines.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", offline)

    with pytest.raises(
        FileNotFoundError,
        match=r"'org/name' \(hub name, .*huggingface-cli",
    ):
        build(type="HFTokenizer", name_or_path="org/name")


def test_pad_that_does_not_exist_and_wrong_side_are_refused(tmp_path):
    tokenizer = build(type="TinyTokenizer")
    tokenizer.unk_token = None
    tokenizer.save_pretrained(tmp_path)

    with pytest.raises(ValueError, match=r"tokenizer.pad='unk': .* has no unk_token"):
        build(type="HFTokenizer", name_or_path=str(tmp_path), pad="unk")
    with pytest.raises(ValueError, match="padding_side='top', expected 'right' or"):
        build(type="HFTokenizer", name_or_path=str(tmp_path), padding_side="top")


def test_codec_brings_its_tokens(tmp_path):
    codec = dict(type="QwenVLCodec")
    tiny = build(type="TinyTokenizer", special_tokens=["<x>"], codec=codec)
    ids = tiny.encode("<box>(1,2),(3,4)</box>", add_special_tokens=False)
    assert tiny.convert_ids_to_tokens(ids[0]) == "<box>"
    assert tiny.convert_tokens_to_ids("<ref>") == tiny.convert_tokens_to_ids("<x>") + 1

    build(type="TinyTokenizer").save_pretrained(tmp_path)
    loaded = build(type="HFTokenizer", name_or_path=str(tmp_path), codec=codec)
    assert loaded.convert_ids_to_tokens(len(loaded) - 1) == "</box>"
