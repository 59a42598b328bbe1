"""A template whose text opens with BOS gives the official ids, token by token."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing

from mmvlm.export.chat_jinja import to_jinja
from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
from mmvlm.structures import SLOT_TOKEN_ID
from mmvlm.text.encoding import encode_conversation
from mmvlm.text.llava_format import parse_llava_conversation

SYSTEM = "A chat between a user and an assistant."
HEADERS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
BOS = {"llava_tokenizer": "<s>", "bytelevel_tokenizer": "<|begin_of_text|>"}
TALKS = {
    "image": ["<image>\nWhat is this?", "A cat."],
    "rounds": ["<image>\nWhat is this?", "A cat.", "Sure?", "Yes."],
    "text": ["Which colour?", "Red, of course.", "And 12 + 7?", "19"],
}


def build(kind, goldens):
    """Return a tokenizer that opens every text with the BOS that the text holds."""
    special = [*HEADERS, *([] if kind == "llava_tokenizer" else [BOS[kind]])]
    tokenizer = TOKENIZERS.build(
        dict(
            type="HFTokenizer",
            name_or_path=str(goldens / kind),
            use_fast=kind != "llava_tokenizer",
            additional_special_tokens=special,
            **(dict(pad="unk") if kind == "llava_tokenizer" else {}),
        )
    )
    if kind != "llava_tokenizer":
        tokenizer.bos_token = BOS[kind]
        number = tokenizer.convert_tokens_to_ids(BOS[kind])
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{BOS[kind]} $A", special_tokens=[(BOS[kind], number)]
        )
    return tokenizer


def official(values, tokenizer, bos):
    """Return ids and what is trained, as INF-LLaVA's scripts make them.

    One string, cut at images, every chunk encoded with BOS, which all chunks but
    the first lose; a round's question ends with the header of the answer.
    """

    def header(role):
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n"

    def encode(text):
        chunks = [tokenizer(chunk).input_ids for chunk in text.split("<image>")]
        ids = list(chunks[0])
        for chunk in chunks[1:]:
            ids += [SLOT_TOKEN_ID, *chunk[1:]]
        return ids

    text = f"{bos}{header('system')}{SYSTEM}<|eot_id|>"
    trained: list[tuple[int, int]] = []
    for number in range(0, len(values), 2):
        text += f"{header('user')}{values[number]}<|eot_id|>{header('assistant')}"
        start = len(encode(text))
        text += f"{values[number + 1]}<|eot_id|>"
        trained.append((start, len(encode(text))))
    ids = np.array(encode(text))
    labels = np.full(len(ids), -100)
    for start, end in trained:
        labels[start:end] = ids[start:end]
    return ids, labels


def ours(values, tokenizer, **options):
    template = CHAT_TEMPLATES.build(dict(type="llama_3", system=SYSTEM, **options))
    entries = [
        {"from": ("human", "gpt")[n % 2], "value": value}
        for n, value in enumerate(values)
    ]
    images = ["a.jpg"] if "<image>" in values[0] else []
    record = dict(id="1", conversations=entries)
    if images:
        record["image"] = images[0]
    talk = parse_llava_conversation(record, images=images)
    return encode_conversation(talk, template, tokenizer, [1] * len(images))


@pytest.mark.parametrize("kind", sorted(BOS))
@pytest.mark.parametrize("talk", sorted(TALKS))
def test_ids_and_labels_are_the_official_ones(goldens, kind, talk):
    tokenizer, bos = build(kind, goldens), BOS[kind]

    sample = ours(TALKS[talk], tokenizer, literal_bos=bos)

    ids, labels = official(TALKS[talk], tokenizer, bos)
    assert sample.input_ids[:2].tolist() == [tokenizer.bos_token_id] * 2
    np.testing.assert_array_equal(sample.input_ids, ids)
    np.testing.assert_array_equal(sample.labels, labels)


@pytest.mark.parametrize("kind", sorted(BOS))
def test_one_bos_without_the_option(goldens, kind):
    tokenizer = build(kind, goldens)

    found = ours(TALKS["rounds"], tokenizer).input_ids

    assert found.tolist().count(tokenizer.bos_token_id) == 1


def test_a_tokenizer_without_that_token_is_refused(goldens):
    tokenizer = build("llava_tokenizer", goldens)

    with pytest.raises(ValueError, match=r"<\|begin_of_text\|>' is not one token"):
        ours(TALKS["text"], tokenizer, literal_bos="<|begin_of_text|>")


def test_the_jinja_text_of_an_export_opens_with_it_too():
    template = CHAT_TEMPLATES.build(dict(type="llama_3", literal_bos="<s>"))

    jinja = to_jinja(template)

    assert jinja.count("<s><|start_header_id|>") == 2  # with and without system text
