"""GQA: one file, and a folder of parts."""

import logging

import pytest
from qa_helpers import (
    SHORT,
    SKIP,
    dump,
    make_images,
    own_cache,  # noqa: F401
    reasons,
    said,
    talks,
    written,
)

from mmvlm.datasets.readers.gqa import GQADataset
from mmvlm.datasets.tiny_scenes.questions import questions_of


def question(**change):
    row = dict(question="Who?", imageId="2354", answer="man", fullAnswer="A man.")
    return {**row, "isBalanced": True, "semantic": [], "types": {}, **change}


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back(tmp_path, split):
    samples, (config,) = written("gqa", tmp_path, split, num=9)

    found = talks(config)

    wanted = sorted(
        [f"{q.text}\n{SHORT}", q.answer] for s in samples for q in questions_of(s)
    )
    assert sorted(said(talk) for talk in found) == wanted
    assert {"types", "groups", "semantic", "entailed", "isBalanced"} <= set(
        found[0].meta
    )
    assert len(make_images(config)) == len(wanted)
    assert sum(t.meta["isBalanced"] for t in found) == len(
        talks(config, subset="balanced")
    )


def test_parts_are_read_in_their_order(tmp_path):
    for part in (10, 2, 0):
        key = f"{part:02d}"
        dump(tmp_path / f"all/train_all_questions_{part}.json", {key: question()})

    folder = GQADataset("all", data_root=str(tmp_path))
    stars = GQADataset("all/train_all_questions_?.json", data_root=str(tmp_path))

    ids = [folder[i]["conversation"].id for i in range(len(folder))]
    assert ids == ["00", "02", "10"] and folder.name == "all"
    assert [stars[i]["conversation"].id for i in range(len(stars))] == ["00", "02"]
    assert folder[0]["conversation"].images == ["2354.jpg"]


def test_what_is_not_balanced_is_left_out_and_counted(tmp_path, caplog):
    dump(tmp_path / "q.json", {"1": question(), "2": question(isBalanced=False)})
    config = dict(type="GQADataset", data_root=str(tmp_path), ann_file="q.json")

    with caplog.at_level(logging.INFO, "mmengine"):
        assert [t.id for t in talks(config, subset="balanced")] == ["1"]
    assert len(talks(config)) == 2


def test_full_answers_and_hidden_ones(tmp_path):
    hidden = question()
    del hidden["answer"], hidden["fullAnswer"]
    dump(tmp_path / "q.json", {"1": question(), "2": hidden})
    config = dict(type="GQADataset", data_root=str(tmp_path), ann_file="q.json")

    first, second = talks(config, answer="fullAnswer")

    assert said(first)[1] == "A man." and len(second.turns) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(question=3), "'question' must be a str, got 3"),
        (dict(imageId=None), "'imageId' must be a int or str"),
        (dict(answer=""), "'answer' is an empty text"),
        (None, "expected a record"),
    ],
)
def test_a_damaged_question_is_counted(tmp_path, change, reason):
    bad = None if change is None else question(**change)
    dump(tmp_path / "q.json", {"1": question(), "2": bad})
    config = dict(type="GQADataset", data_root=str(tmp_path), ann_file="q.json")

    found = talks(config, **SKIP)

    assert len(found) == 2 and reason in reasons(found)[0] and found[1].id == "2"


def test_files_that_cannot_be_read_are_named(tmp_path):
    dump(tmp_path / "all/a_0.json", {"1": question()})
    (tmp_path / "all/a_1.json").write_text('{"2": {"question"')
    (tmp_path / "none").mkdir()

    with pytest.raises(ValueError, match=r"a_1\.json' is not valid JSON"):
        GQADataset("all", data_root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"none' has no file that ends"):
        GQADataset("none", data_root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no file matches"):
        GQADataset("gone*.json", data_root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"2 of 3 files .* do not"):
        GQADataset("all/a_{1..3}.json", data_root=str(tmp_path))
    with pytest.raises(ValueError, match="subset='most': expected one of"):
        GQADataset("all", subset="most")
