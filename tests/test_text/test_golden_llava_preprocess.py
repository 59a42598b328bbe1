"""Ids and labels against LLaVA's own, for every record of the golden file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import transformers
from transformers import AutoTokenizer, LlamaTokenizer, LlamaTokenizerFast

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.text.encoding import ConversationEncoder
from mmvlm.text.llava_format import IMAGE_TAG, parse_llava_conversation

CHATML_TOKENS = ["<|im_start|>", "<|im_end|>"]
START_END = ["<im_start>", "<im_end>"]
TOKENS_PER_IMAGE = 3


@pytest.fixture(scope="module")
def golden(goldens):
    return json.loads((goldens / "llava_preprocess.json").read_text())


@pytest.fixture(scope="module")
def load_tokenizer(goldens):
    cache = {}

    def load(record, fast):
        key = (
            record["tokenizer"],
            record["legacy"],
            record["mm_use_im_start_end"],
            fast,
        )
        if key not in cache:
            cache[key] = _load(goldens, record, fast)
        return cache[key]

    return load


def _load(goldens, record, fast):
    if record["tokenizer"] == "bytelevel":
        tokenizer = AutoTokenizer.from_pretrained(goldens / "bytelevel_tokenizer")
    else:
        kind = LlamaTokenizerFast if fast else LlamaTokenizer
        tokenizer = kind.from_pretrained(
            goldens / "llava_tokenizer", legacy=record["legacy"]
        )
    tokenizer.pad_token = tokenizer.unk_token
    if record["tokenizer"] == "llama_chatml":
        tokenizer.add_tokens(CHATML_TOKENS, special_tokens=True)
    if record["mm_use_im_start_end"]:
        tokenizer.add_tokens(START_END, special_tokens=True)
    return tokenizer


def _conversation(record):
    """Parse what the record says, one image per text that holds the tag."""
    tagged = sum(IMAGE_TAG in turn["value"] for turn in record["conversations"])
    return parse_llava_conversation(
        record,
        images=[f"{n}.png" for n in range(tagged)] if record["has_image"] else [],
        collapse_image_tags=True,
        # LLaVA's v0 masking alone keeps a first turn by the model.
        drop_leading_answer=_template(record).llava_version != "v0",
    )


def _template(record):
    config = dict(type=record["template"])
    if record["mm_use_im_start_end"]:
        config.update(image_prefix=START_END[0], image_suffix=START_END[1])
    return CHAT_TEMPLATES.build(config)


def _encode(record, tokenizer, **kwargs):
    """Return LLaVA's form: ids and labels with one place per image."""
    template, conversation = _template(record), _conversation(record)
    limit = record["model_max_length"]
    encoder = ConversationEncoder(template, tokenizer, model_max_length=limit, **kwargs)
    lengths = [TOKENS_PER_IMAGE] * len(conversation.images)
    (sample,) = encoder([conversation], [lengths])
    keep = np.ones(len(sample), dtype=bool)
    for slot in sample.slots:
        assert (sample.labels[slot.start : slot.start + slot.length] < 0).all()
        keep[slot.start + 1 : slot.start + slot.length] = False
    ids, labels = sample.input_ids[keep], sample.labels[keep]
    # LLaVA cuts the text of samples without image when it encodes them.
    return (ids, labels) if record["has_image"] else (ids[:limit], labels[:limit])


def _official_labels(record, constants):
    ids = np.array(record["input_ids"])
    labels = np.full(len(ids), constants["IGNORE_INDEX"])
    for start, end in record["supervised_spans"]:
        labels[start:end] = ids[start:end]
    return labels


def _needs_slow_tokenizer(record, fast):
    """Transformers 5 has no slow Llama; legacy text behind a token differs there."""
    if transformers.__version__.split(".")[0] < "5" or not record["legacy"]:
        return False
    answers = [t["value"] for t in record["conversations"] if t["from"] == "gpt"]
    return any(token in a for a in answers for token in ("<unk>", "</s>", "<s>"))


def _is_right(record, constants):
    """Whether LLaVA's labels are what they mean to be.

    Wrong are: samples dropped by the count of tokens; the mpt function, off by
    one; the v0 function, which counts BOS with every turn; a placeholder that is
    to be said.
    """
    return (
        record["mismatch_warning"] is None
        and _template(record).llava_version not in ("mpt", "v0")
        and constants["IMAGE_TOKEN_INDEX"] not in _official_labels(record, constants)
    )


def _whole(golden, fast):
    """Return records that LLaVA encodes and that this tokenizer can."""
    found = [
        record
        for record in golden["cases"]
        if "error" not in record and not _needs_slow_tokenizer(record, fast)
    ]
    assert found
    return found


@pytest.mark.golden
@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
def test_ids_equal_llava_for_every_record(golden, load_tokenizer, fast):
    for record in _whole(golden, fast):
        ids, _ = _encode(record, load_tokenizer(record, fast), labels="llava")

        assert ids.tolist() == record["input_ids"], (record["id"], record["template"])


@pytest.mark.golden
@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
def test_labels_equal_llava_wherever_llava_is_right(golden, load_tokenizer, fast):
    constants = golden["constants"]
    whole = (record for record in golden["cases"] if "error" not in record)
    right = [record for record in whole if _is_right(record, constants)]
    assert right

    for record in right:
        ids, labels = _encode(record, load_tokenizer(record, fast))

        expected = _official_labels(record, constants)
        assert ids.tolist() == record["input_ids"]
        assert labels.tolist() == expected.tolist(), (record["id"], record["template"])


@pytest.mark.golden
@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
def test_llava_labels_option_gives_llavas_own_labels(golden, load_tokenizer, fast):
    constants = golden["constants"]
    for record in _whole(golden, fast):
        _, labels = _encode(record, load_tokenizer(record, fast), labels="llava")

        expected = _official_labels(record, constants)
        expected[expected == constants["IMAGE_TOKEN_INDEX"]] = constants["IGNORE_INDEX"]
        assert labels.tolist() == expected.tolist(), (record["id"], record["template"])


@pytest.mark.golden
@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
def test_drop_on_mismatch_drops_what_llava_drops(golden, load_tokenizer, fast):
    for record in _whole(golden, fast):
        tokenizer = load_tokenizer(record, fast)
        _, dropped = _encode(record, tokenizer, drop_on_mismatch=True)

        if record["mismatch_warning"]:
            assert (dropped == golden["constants"]["IGNORE_INDEX"]).all()
        elif all(turn["value"] for turn in record["conversations"]):
            _, kept = _encode(record, tokenizer)
            assert dropped.tolist() == kept.tolist()


@pytest.mark.golden
def test_records_that_fail_in_llava_fail_here_and_name_the_sample(
    golden, load_tokenizer
):
    # A file of whole records alone has none; one of our own is always there.
    asked = {"from": "human", "value": f"{IMAGE_TAG}\nAgain?"}
    twice = dict(golden["cases"][0], id="asked twice", has_image=True, template="v1")
    twice["conversations"] = [asked] * 3
    for record in [twice, *(r for r in golden["cases"] if "error" in r)]:
        with pytest.raises(ValueError, match=record["id"]):
            _encode(record, load_tokenizer(record, False))


@pytest.mark.golden
def test_rendered_text_equals_llavas_prompt(golden):
    for record in golden["cases"]:
        if "error" in record:
            continue
        pieces = _template(record).render(_conversation(record))
        text = "".join(p.text if p.image is None else IMAGE_TAG for p in pieces)

        assert text == record["prompt"], (record["id"], record["template"])
