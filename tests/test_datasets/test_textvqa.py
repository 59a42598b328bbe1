"""TextVQA with and without the tokens of its OCR system."""

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

from mmvlm.datasets.tiny_scenes.questions import questions_of, read_tokens


@pytest.fixture
def config(tmp_path):
    rows = [
        dict(
            question="word?",
            image_id=f"{n:016x}",
            answers=["a", "b", "b"],
            question_id=n,
            image_width=1024,
            image_height=683,
            set_name="train",
        )
        for n in range(2)
    ]
    tokens = [
        dict(image_id=f"{n:016x}", ocr_tokens=["STOP", "5,0"][: 2 * n]) for n in (0, 1)
    ]
    dump(tmp_path / "q.json", dict(dataset_name="textvqa", data=rows))
    dump(tmp_path / "ocr.json", dict(data=tokens))
    return dict(type="TextVQADataset", data_root=str(tmp_path), ann_file="q.json")


def change(config, name, edit):
    import json
    from pathlib import Path

    path = Path(config["data_root"]) / name
    table = json.loads(path.read_text())
    edit(table["data"])
    dump(path, table)


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back(tmp_path, split):
    samples, (plain, with_tokens) = written("textvqa", tmp_path, split, num=9)
    wanted = [(s, q) for s in samples for q in questions_of(s)]

    texts = [said(talk) for talk in talks(plain)]
    read = [said(talk) for talk in talks(with_tokens)]

    assert texts == [[f"{q.text}\n{SHORT}", q.answer] for _, q in wanted]
    for (sample, question), (ask, answer) in zip(wanted, read, strict=True):
        tokens = read_tokens(sample)
        line = [f"Reference OCR token: {', '.join(tokens)}"] if tokens else []
        assert ask.split("\n") == [question.text, *line, SHORT]
        assert answer == question.answer
    assert len(make_images(plain)) == len(wanted)


def test_tokens_stand_before_the_last_line(config):
    first, second = talks(config, ocr_file="ocr.json")

    assert said(first) == [f"word?\n{SHORT}", "b"]
    assert said(second)[0] == f"word?\nReference OCR token: STOP, 5,0\n{SHORT}"
    assert second.images == ["0000000000000001.jpg"]
    assert second.meta["ocr_tokens"] == ["STOP", "5,0"]
    assert second.meta["answers"] == ["b", "b", "a"]


def test_hidden_answers_leave_the_question(config):
    change(config, "q.json", lambda rows: rows[0].pop("answers"))

    assert [len(talk.turns) for talk in talks(config)] == [1, 2]


@pytest.mark.parametrize(
    ("file", "edit", "reason"),
    [
        ("q.json", lambda d: d[1].pop("question"), "no field 'question'"),
        ("q.json", lambda d: d[1].update(answers=["a", 3]), "'answers' must be a list"),
        ("q.json", lambda d: d[1].update(image_id=""), "'image_id' is an empty text"),
        ("ocr.json", lambda d: d.pop(), "has no tokens of image"),
        ("ocr.json", lambda d: d[1].update(ocr_tokens="a"), "'ocr_tokens' must be"),
    ],
)
def test_a_damaged_question_is_counted(config, file, edit, reason):
    change(config, file, edit)

    found = talks(config, ocr_file="ocr.json", **SKIP)

    assert len(found) == 2 and reason in reasons(found)[0]


def test_files_that_cannot_be_read_are_named(config, tmp_path):
    (tmp_path / "ocr.json").write_text('{"data": 3}')

    with pytest.raises(ValueError, match=r"ocr\.json': expected a list 'data'"):
        talks(config, ocr_file="ocr.json")
    with pytest.raises(FileNotFoundError, match=r"gone\.json' does not exist"):
        talks(config, ocr_file="gone.json")
