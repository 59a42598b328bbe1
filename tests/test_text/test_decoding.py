"""The way back: ids to text, and text to regions."""

import importlib.util
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mmvlm.registry import CODECS, TOKENIZERS
from mmvlm.structures import Boxes, Region, ViewLayout
from mmvlm.text.decoding import decode

CODECS.import_from_location()
NAMES = sorted(CODECS.module_dict)
SIZE = (48, 64)
LAYOUT = ViewLayout(SIZE, (48, 48), kind="pad")
DOG = Region(0, Boxes(np.array([[3.0, 4, 30, 40]]), SIZE))


def pair(name, **options):
    config = dict(type=name, **options)
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer", codec=config))
    return CODECS.build(config), tokenizer


def ids_of(text, tokenizer):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stops", [(), ("</s>",), ("###", "</s>"), ("<", ">", "[x")])
def test_tokens_of_the_codec_survive_whatever_ends_the_reply(name, stops):
    codec, tokenizer = pair(name)
    written = words = codec.encode(DOG)
    for token in codec.special_tokens:
        words = words.replace(token, "")
    if any(stop in words for stop in stops):
        pytest.skip("it writes a stop string in ordinary words")
    ids = [1, *ids_of(f"Here: {written}", tokenizer), 2, *ids_of("###", tokenizer)]
    plain = [n for n in ids if n != 2] if "###" in stops else ids

    for some in (ids, np.array(ids), torch.tensor(ids), plain):
        found = decode(some, tokenizer, codec, [LAYOUT], stops=stops)
        assert found.text.startswith("Here: ")
        assert written in found.text
        assert len(found.regions) == 1 and not found.problems


def test_a_token_of_the_codec_that_stops_a_reply_is_part_of_it():
    codec, tokenizer = pair("Kosmos2Codec")
    ids = [*ids_of(codec.encode(DOG), tokenizer), *ids_of(" and more", tokenizer)]

    found = decode(ids, tokenizer, codec, [LAYOUT], stops=["</object>"])

    assert found.text.endswith("</object>") and len(found.regions) == 1


def test_without_a_codec_a_reply_is_its_text():
    _, tokenizer = pair("Kosmos2Codec")
    ids = ids_of("a<object>b", tokenizer)

    assert decode(ids, tokenizer).text == "ab"
    assert decode(ids, tokenizer).regions == decode(ids, tokenizer).problems == ()


QUOTED = 'You wrote "[SEG]"; it is <p> my "[SEG]" </p> [SEG], not "[SEG]".'
MARKS = dict(phrase_marks=["<p>", "</p>"], question_token="<bbox>")


def spelled(text, tokenizer):
    """Return ids that say a text and hold none of the tokenizer's own tokens."""
    return [n for character in text for n in ids_of(character, tokenizer)]


@pytest.mark.parametrize("own", [(), (0,), (2,), (3,), (0, 2), (1, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("stops", [(), ("</s>",)])
def test_a_region_stands_where_its_token_does_not_where_words_spell_it(own, stops):
    codec, tokenizer = pair("RegionTokenCodec", **MARKS)
    parts = QUOTED.split("[SEG]")
    ids = ids_of(parts[0], tokenizer)
    for number, part in enumerate(parts[1:]):
        say = ids_of if number in own else spelled
        ids += [*say("[SEG]", tokenizer), *ids_of(part, tokenizer)]
    if stops:
        ids += [tokenizer.eos_token_id, *ids_of("[SEG]", tokenizer)]

    found = decode(ids, tokenizer, codec, [LAYOUT], stops=stops)

    assert found.text == QUOTED and not found.problems
    assert len(found.regions) == len(found.spans) == len(own)
    starts = [len("[SEG]".join(parts[: n + 1])) for n in range(4) if n not in own]
    assert found.quoted == tuple((start, start + 5) for start in starts)
    for number, (region, (_, end)) in zip(
        own, zip(found.regions, found.spans, strict=True), strict=True
    ):
        assert end == len("[SEG]".join(parts[: number + 1])) + len("[SEG]")
        assert region.kind == "mask"
        phrase = 'my "[SEG]"' if number == 2 and 1 not in own else None
        assert region.phrase == phrase


def test_a_token_of_questions_that_is_only_spelled_is_text():
    codec, tokenizer = pair("RegionTokenCodec", **MARKS)

    found = decode(spelled("a <bbox>", tokenizer), tokenizer, codec, [LAYOUT])
    assert found.text == "a <bbox>" and not found.regions and not found.problems
    found = decode(ids_of("a <bbox>", tokenizer), tokenizer, codec, [LAYOUT])
    assert "in questions alone" in found.problems[0]


@pytest.mark.parametrize("odd", ["", "\0"])
def test_a_phrase_before_its_box_may_quote_a_token(odd):
    codec, tokenizer = pair("FerretCodec", geometry="stretch")
    text = f'my "<region_fea>" dog{odd} [100, 100, 500, 500]'

    found = decode(spelled(text, tokenizer), tokenizer, codec, [LAYOUT])

    assert found.quoted == ((4, 16),) and not found.problems
    (region,) = found.regions
    assert region.phrase == found.text[: found.text.index(" [")]
    assert '"<region_fea>" dog' in region.phrase


def test_regions_lie_in_the_last_image_and_need_one():
    codec, tokenizer = pair("ShikraCodec", geometry="stretch")
    ids = ids_of("[0.500,0.500,1.000,1.000]", tokenizer)
    layouts = [LAYOUT, ViewLayout((100, 200), (48, 48))]

    (region,) = decode(ids, tokenizer, codec, layouts).regions
    assert region.image == 1
    np.testing.assert_allclose(region.boxes.xyxy, [[100, 50, 200, 100]])

    none = decode(ids, tokenizer, codec, [])
    assert none.regions == ()
    assert none.problems == ("1 regions, but no image was shown",)


@pytest.mark.parametrize("name", NAMES)
def test_ids_of_any_kind_are_read_or_named(name):
    codec, tokenizer = pair(name)
    good = ids_of(codec.encode(DOG), tokenizer)
    wrong = [-200, -1, len(tokenizer), 2**31, 2**70, math.nan, math.inf, None, "7", 1.5]

    found = decode([*wrong, *good, *wrong], tokenizer, codec, [LAYOUT])

    assert len(found.regions) == 1
    assert found.problems == ("20 ids that the tokenizer does not have",)
    for ids in ([], None, math.nan, np.array(math.nan), torch.empty(0), [[1], [2]]):
        assert decode(ids, tokenizer, codec, [LAYOUT]).regions == ()


@pytest.mark.parametrize("digits", [3, 19, 400, 5000])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_any_length_are_problems_or_places(name, digits):
    codec = CODECS.build(dict(type=name))
    if not codec.writes_coordinates:
        pytest.skip("it writes no numbers")
    text = codec.encode(DOG)
    for at in (n for n, character in enumerate(text) if character.isdigit()):
        found = codec.decode(text[:at] + "9" * digits + text[at + 1 :], SIZE)
        assert all(np.isfinite(one.boxes.xyxy).all() for one in found.regions)
        assert found.regions or found.problems


def test_a_decoder_of_others_that_raises_is_a_problem(monkeypatch):
    codec, tokenizer = pair("ShikraCodec")
    monkeypatch.setattr(type(codec), "_read", lambda self, text: 1 / 0)

    found = decode(ids_of("x", tokenizer), tokenizer, codec, [LAYOUT])

    assert found.text == "x" and "ZeroDivisionError" in found.problems[0]


def test_damaged_replies_raise_nothing():
    """At length: MMVLM_FUZZ=100000."""
    path = Path(__file__).parents[2] / "tools" / "analysis" / "fuzz_decoders.py"
    spec = importlib.util.spec_from_file_location("fuzz_decoders", path)
    fuzzer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzzer)

    num = int(os.environ.get("MMVLM_FUZZ", 700))
    outcomes, failures = fuzzer.fuzz(num, seed=1)

    assert failures == []
    verdicts = {verdict for _, verdict in outcomes}
    assert verdicts == {"ok", "none", "malformed"}
    assert {name for name, _ in outcomes} == set(NAMES)
