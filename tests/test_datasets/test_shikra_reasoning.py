"""Shikra's grounded reasoning: questions and thoughts with their boxes."""

import json

import pytest
from grounding_helpers import annotations, build, make_image

from mmvlm.datasets.bad_samples import DataError
from mmvlm.registry import DATASETS
from mmvlm.structures import Region

RECORD = dict(
    img_path="7.jpg",
    question="What does <ph_st>the man<ph_ed> hold?",
    question_boxes_seq=[[1]],
    cot_with_ans="<ph_st>The man<ph_ed> has <ph_st>cups<ph_ed>. The answer is cups.",
    answer_boxes_seq=[[1], [0, 2]],
    answer="cups",
    boxes=[[0, 1, 10, 20], [20, 1, 30, 20], [0, 0, 40, 30]],
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path):
    make_image(tmp_path / "7.jpg", (40, 30))

    def write(*records, **task):
        text = "\n".join(json.dumps(record) for record in records)
        (tmp_path / "cot.jsonl").write_text(text + "\n")
        return dict(
            type="ShikraReasoningDataset",
            data_root=str(tmp_path),
            ann_file="cot.jsonl",
            task=dict(type="GroundedReasoning", **task),
        )

    return write


def said(files, **task):
    dataset = DATASETS.build(files(RECORD, **task))
    turns = dataset.item_at(0)["conversation"].turns
    return [
        [p.boxes.xyxy.tolist() if isinstance(p, Region) else getattr(p, "text", "")
         for p in turn.parts]
        for turn in turns
    ]  # fmt: skip


def test_phrases_of_question_and_thoughts_have_their_boxes(files):
    (found,) = annotations(build(files(RECORD)))
    question, thoughts = found.captions
    assert question.text == "What does the man hold?"
    assert thoughts.text == "The man has cups. The answer is cups."
    assert [span.instances for span in thoughts.spans] == [(1,), (0, 2)]

    asked, answered = said(files)
    assert asked[2:] == ["What does ", [[20, 1, 30, 20]], " hold?"]
    assert answered[0] == [[20, 1, 30, 20]] and answered[-1] == ". The answer is cups."
    assert said(files, answer="thoughts")[1] == [thoughts.text]
    assert said(files, answer="short")[1] == ["cups"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(answer_boxes_seq=[[1]]), "2 marked phrases, but 1 lists of boxes"),
        (dict(question_boxes_seq=[[9]]), r"a phrase has the boxes \[9\]"),
        (dict(cot_with_ans="<ph_st>a"), "marks of phrases do not come in pairs"),
        (dict(boxes=None), "'boxes'"),
    ],
)
def test_damaged_lines_are_named(files, change, message):
    dataset = DATASETS.build(files({**RECORD, **change}, RECORD))
    with pytest.raises((DataError, ValueError), match=message):
        dataset.item_at(0)
    assert dataset.item_at(1) is not None


def test_wrong_options_are_refused(files):
    with pytest.raises(ValueError, match="answer='long', expected one of"):
        DATASETS.build(files(RECORD, answer="long"))
