"""Shikra's files of PointQA: a question, its answer, and the box it points at."""

import json

import pytest
from grounding_helpers import make_image

from mmvlm.datasets.bad_samples import DataError
from mmvlm.registry import DATASETS
from mmvlm.structures import Region

LOCAL = dict(
    file_path="7.jpg",
    question="What colour is it?",
    answer="red",
    bbox=[4, 6, 20, 26],
    point=[12, 16],
)
TWICE = dict(
    file_path="7.jpg",
    obj_question="How many cups are there?",
    super_question="How many dishes are there?",
    general_question="How many of these are there?",
    answer=3,
    bbox=[4, 6, 20, 26],
)


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))
    make_image(tmp_path / "7.jpg", (40, 30))

    def function(record, **options):
        (tmp_path / "qa.jsonl").write_text(json.dumps(record) + "\n")
        config = dict(type="ShikraPointQADataset", ann_file="qa.jsonl")
        return DATASETS.build(dict(config, data_root=str(tmp_path), **options))

    return function


@pytest.mark.parametrize("as_box", [False, True])
def test_a_question_points_at_its_box(read, as_box):
    task = dict(type="PointQA", as_box=as_box, answer="The answer is <answer> .")
    question, answer = read(LOCAL, task=task).item_at(0)["conversation"].turns

    (region,) = [part for part in question.parts if isinstance(part, Region)]
    x1, y1, x2, y2 = region.boxes.xyxy[0]
    assert 4 <= x1 <= x2 <= 20 and 6 <= y1 <= y2 <= 26
    assert region.kind == ("box" if as_box else "point")
    assert as_box == ((x1, y1, x2, y2) == (4, 6, 20, 26))
    assert "What colour is it?" in question.text
    assert answer.text == "The answer is red ."


@pytest.mark.parametrize("asks", ["object", "super", "general"])
def test_look_twice_has_three_wordings(read, asks):
    field = dict(object="obj").get(asks, asks)
    turns = read(TWICE, asks=asks).item_at(0)["conversation"].turns

    assert TWICE[f"{field}_question"] in turns[0].text and turns[1].text == "3"


def test_damage_is_named(read):
    with pytest.raises(ValueError, match="asks='why', expected one of"):
        read(LOCAL, asks="why")
    with pytest.raises(DataError, match="obj_question"):
        read(LOCAL, asks="object")[0]
    with pytest.raises(DataError, match="box"):
        read(dict(LOCAL, bbox=[4, 6, 4, 26]))[0]
