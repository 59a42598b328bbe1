"""Osprey-724K: masks of a record stand where its questions name them."""

import json

import numpy as np
import pytest

from mmvlm.datasets.index.records import TURNS
from mmvlm.datasets.readers.osprey import OspreyDataset
from mmvlm.structures import Image, Region, Text
from mmvlm.structures.masks import mask_to_rle

SIZE = (20, 30)
RING = [[2, 3, 10, 3, 10, 9, 2, 9]]


def lengths():
    mask = np.zeros(SIZE, np.uint8)
    mask[12:16, 20:26] = 1
    return mask_to_rle(mask)


def record(*texts, **changes):
    speakers = ("human", "gpt")
    item = dict(
        file_name="COCO_train2014_000000000007.jpg",
        height=20,
        width=30,
        annotation=[dict(segmentation=RING), dict(segmentation=lengths())],
        conversations=[
            {"from": speakers[n % 2], "value": text} for n, text in enumerate(texts)
        ],
    )
    return {**item, **changes}


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))

    def function(item, name, **options):
        (tmp_path / name).write_text(json.dumps([item]))
        return OspreyDataset(name, data_root=str(tmp_path), **options)

    return function


def shown(turn):
    """Return a turn's words, with the box of each region."""
    return [
        part.text if isinstance(part, Text) else tuple(part.boxes.xyxy[0].astype(int))
        for part in turn.parts
        if not isinstance(part, Image)
    ]


FIRST, SECOND = (2, 3, 10, 9), (20, 12, 26, 16)


@pytest.mark.parametrize(
    "name", ["osprey_conversation.json", "osprey_short_form.json", "part_level.json"]
)
def test_the_first_question_lists_all_regions(read, name):
    texts = ("Is <region1> left of <region2>?", "Yes, <region1> is.", "Why?", "It is.")
    talk = read(record(*texts), name)[0]["conversation"]

    asked = shown(talk.turns[0])
    assert talk.images == ["000000000007.jpg"] and talk.turns[0].parts[0] == Image(0)
    assert [part for part in asked if isinstance(part, tuple)] == [FIRST, SECOND]
    short = "" if "conversation" in name else " Answer with one word or a short phrase."
    assert asked[-1].endswith(f"Is region1 left of region2?{short}")
    assert shown(talk.turns[1]) == ["Yes, region1 is."]
    assert shown(talk.turns[2]) == [f"Why?{short}"]
    regions = [part for part in talk.turns[0].parts if isinstance(part, Region)]
    assert {one.kind for one in regions} == {"mask"}
    assert regions[0].polygons == ((tuple(map(float, RING[0])),),)
    assert regions[1].rles[0]["size"] == list(SIZE)


def test_a_region_of_a_question_is_the_mask_of_its_number(read):
    texts = ("Is <region2> a dog?", "No.", "And <region1>?", "Yes.")
    talk = read(record(*texts), "osprey_lvis_positive_negative.json")[0]["conversation"]

    assert SECOND in shown(talk.turns[0]) and FIRST not in shown(talk.turns[0])
    assert shown(talk.turns[2]) == ["And ", FIRST, "?"]


def test_descriptions_are_asked_for_one_by_one(read):
    said = ["<region1>: A red box.", "<region2>: A hat: small."]
    item = record(description=said)
    data = read(item, "osprey_detailed_description.json", templates="What is <region>?")
    talk = data[0]["conversation"]

    assert shown(talk.turns[0])[1:] == [FIRST, "?"]
    assert [shown(turn) for turn in talk.turns[1:]] == [
        ["A red box."],
        ["What is ", SECOND, "?"],
        ["A hat: small."],
    ]


def test_words_and_questions_are_those_of_the_form(read):
    said = ["<region1>: A red box.", "<region2>: A hat: small."]
    item = record("Is <region1> a dog?", "No.", description=said)
    forms = ("inline", "description")
    talk, texts = (read(item, "a.json", form=form) for form in forms)

    assert talk.lengths.tolist() == [5] and texts.lengths.tolist() == [8]
    several = [bool(data._facts.flags[0] & TURNS) for data in (talk, texts)]
    assert several == [False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(annotation=[]), "'annotation' is empty"),
        (dict(annotation=[dict(segmentation=[[1, 2, 3]])]), "segmentation|coordinates"),
        (dict(annotation=[dict(segmentation=RING)] * 2), "mask 2 is in no question"),
        (dict(conversations=[]), "0 turns, no answer"),
        (dict(conversations=[{"from": "human", "value": "<region3>?"}] * 2), "region3"),
        (dict(height="20"), "'height'"),
        (dict(file_name=None), "'file_name'"),
    ],
)
def test_damage_is_named(read, changes, message):
    item = record("<region1>?", "Yes.", **changes)
    with pytest.raises(ValueError, match=message):
        read(item, "a_positive_negative.json")[0]


def test_a_file_name_that_tells_no_form_is_refused(read):
    with pytest.raises(ValueError, match=r"form=None of 'a.json', expected one of"):
        read(record("a", "b"), "a.json")
    assert len(read(record("a", "b"), "a.json", form="conversation")) == 1
