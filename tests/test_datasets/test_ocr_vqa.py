"""OCR-VQA: books of all splits in one file."""

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

from mmvlm.datasets.tiny_scenes.questions import questions_of


def book(**change):
    row = dict(
        imageURL="http://x/51.jpg",
        title="T",
        authorName="",
        genre="G",
        questions=["Who wrote it?", "Is it new?"],
        answers=["Sandra Boynton", "No"],
        split=1,
    )
    return {**row, **change}


@pytest.fixture
def config(tmp_path):
    def write(**books):
        dump(tmp_path / "dataset.json", books)
        file = dict(data_root=str(tmp_path), ann_file="dataset.json")
        return dict(type="OCRVQADataset", **file)

    return write


def test_scenes_of_both_splits_come_back_from_one_file(tmp_path):
    train, (first,) = written("ocr_vqa", tmp_path, "train", num=4)
    test, (second,) = written("ocr_vqa", tmp_path, "test", num=9)

    for samples, config in ((train, first), (test, second)):
        wanted = [
            [f"{q.text}\n{SHORT}", q.answer] for s in samples for q in questions_of(s)
        ]
        assert [said(talk) for talk in talks(config)] == wanted
        assert len(make_images(config)) == len(wanted)
    merged = talks(first, group="image")
    assert [len(t.turns) for t in merged] == [2 * len(questions_of(s)) for s in train]
    assert len(talks(first, split=None)) == len(talks(first)) + len(talks(second))


def test_names_ids_and_splits(config):
    cfg = config(a=book(), b=book(split=2), c=book(split=3))

    found = talks(cfg, split="val")

    assert [t.id for t in found] == ["b-0", "b-1"] and found[0].images == ["b.jpg"]
    assert found[1].meta["title"] == "T" and said(found[1])[1] == "No"
    with pytest.raises(ValueError, match=r"split='dev': expected one of \['train'"):
        talks(cfg, split="dev")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(answers=["one"]), "2 questions and 1 answers"),
        (dict(questions=[], answers=[]), "0 questions and 0 answers"),
        (dict(answers=["a", " "]), "questions [1] or their answers are empty"),
        (dict(split=4), "'split' must be 1, 2 or 3, got 4"),
        (dict(split=None), "'split' must be 1, 2 or 3, got None"),
        (dict(answers="ab"), "'answers' must be a list"),
    ],
)
def test_a_damaged_book_is_counted(config, change, reason):
    found = talks(config(a=book(), b=book(**change)), split="train", **SKIP)

    assert len(found) == 3 and reason in reasons(found)[0] and found[2].id == "b"


def test_a_cut_file_is_named(config, tmp_path):
    cfg = config(a=book())
    path = tmp_path / "dataset.json"
    path.write_text(path.read_text()[:-9])

    with pytest.raises(ValueError, match=r"dataset\.json' is not valid JSON"):
        talks(cfg)
