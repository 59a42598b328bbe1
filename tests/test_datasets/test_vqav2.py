"""VQAv2 and OK-VQA, in the layout of their files."""

import re

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

from mmvlm.datasets.bad_samples import DataError
from mmvlm.datasets.readers.okvqa import OKVQADataset
from mmvlm.datasets.readers.vqav2 import VQAv2Dataset
from mmvlm.datasets.tiny_scenes.questions import questions_of


def question(number, image=9, text="What is it?"):
    return dict(image_id=image, question=text, question_id=number)


def annotation(number, *answers, image=9, best=None):
    given = [
        dict(answer=a, answer_confidence="yes", answer_id=n + 1)
        for n, a in enumerate(answers)
    ]
    return dict(
        question_type="what is",
        multiple_choice_answer=best or answers[0],
        answers=given,
        image_id=image,
        answer_type="other",
        question_id=number,
    )


@pytest.fixture
def files(tmp_path):
    """Write two questions; the functions change them before."""

    def write(questions=None, annotations=None, subtype="train2014"):
        questions = [question(90), question(91)] if questions is None else questions
        if annotations is None:
            annotations = [annotation(90, "cat"), annotation(91, "dog", "cow", "cow")]
        table = dict(questions=questions, data_subtype=subtype)
        if subtype is None:
            del table["data_subtype"]
        dump(tmp_path / "q.json", table)
        dump(tmp_path / "a.json", dict(annotations=annotations))
        return dict(
            type="VQAv2Dataset",
            data_root=str(tmp_path),
            ann_file="q.json",
            answer_file="a.json",
        )

    return write


@pytest.mark.parametrize("name", ["vqav2", "okvqa"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back(tmp_path, name, split):
    samples, (config,) = written(name, tmp_path, split, num=9)

    found = talks(config)

    wanted = [(s, q) for s in samples for q in questions_of(s)]
    assert [said(t) for t in found] == [
        [f"{q.text}\n{SHORT}", q.answer] for _, q in wanted
    ]
    assert all(len(t.images) == 1 for t in found)
    size = samples[0].scene.size
    assert {p.shape for (p,) in make_images(config)} == {(size, size, 3)}
    assert {"question_id", "answers", "answer_type", "question_type"} <= set(
        found[0].meta
    )
    assert found[0].meta["answers"].count("maybe") == 1


def test_images_are_named_as_coco_does(files):
    assert talks(files())[0].images == ["COCO_train2014_000000000009.jpg"]


def test_test_dev_takes_the_images_of_test(files):
    config = {**files(subtype="test-dev2015"), "answer_file": None}

    first = talks(config)[0]

    assert first.images == ["COCO_test2015_000000000009.jpg"]
    assert [turn.role for turn in first.turns] == ["user"]
    assert "answers" not in first.meta and first.meta["question_id"] == 90


def test_a_file_without_subtype_needs_a_name(files):
    config = files(subtype=None)

    with pytest.raises(ValueError, match=r"q\.json' has no 'data_subtype'; say"):
        talks(config)
    named = talks(config, image_name="{image_id}.png")
    assert named[0].images == ["9.png"]


def test_most_frequent_answer_and_draws(files):
    config = files()

    def answers(**task):
        task = dict(type="VisualQuestionAnswering", **task)
        return [
            said(talk)[1]
            for seed in range(40)
            for talk in talks(config, task=task, seed=seed)[1:]
        ]

    # "dog" is the file's best answer, "cow" the more frequent one.
    assert set(answers()) == {"cow"}
    assert set(answers(answer="first")) == {"dog"}
    drawn = answers(answer="random")
    assert 5 < drawn.count("dog") < 23 and drawn == answers(answer="random")


def test_a_blank_answer_counts_and_is_not_trained(files):
    config = files(None, [annotation(90, "cat", "", " ", ""), annotation(91, "b")])

    first = talks(config)[0]
    scored = talks(config, evaluate=True)[0]

    assert said(first)[1] == "cat"
    assert sorted(first.meta["answers"]) == ["", "", " ", "cat"]
    assert scored.meta["reference"] == first.meta["answers"]
    assert scored.turns == first.turns


def test_questions_of_an_image_become_one_dialogue(files):
    rows = [question(1, 7, "Who?"), question(2, 8, "Where?"), question(3, 7, "Why?")]
    notes = [
        annotation(1, "a", image=7),
        annotation(2, "b", image=8),
        annotation(3, "c", image=7),
    ]
    config = files(rows, notes)

    first, second = talks(config, group="image")

    assert said(first) == [f"Who?\n{SHORT}", "a", "Why?", "c"]
    assert said(second) == [f"Where?\n{SHORT}", "b"]
    assert first.meta == dict(question_ids=[1, 3])
    each = dict(type="VisualQuestionAnswering", suffix="Short.", suffix_on="each")
    assert said(talks(config, group="image", task=each)[0])[2] == "Why?\nShort."


@pytest.mark.parametrize(
    ("questions", "annotations", "reason"),
    [
        ([question(90), "no"], None, "expected a record .* got str 'no'"),
        ([question(90), question(91, text=" ")], None, "'question' is an empty text"),
        ([question(90), question(91, image=5)], None, "about image 5, its .* 9"),
        ([question(90), question(91, image="x")], None, "does not fit .* id 'x'"),
        (None, [annotation(90, "a")], "question 91 has no annotation"),
        (None, [annotation(90, "a"), *[annotation(91, "b")] * 2], "has several annot"),
        (None, [annotation(90, "a"), annotation(91, "b", image=3)], "about 3"),
        (None, [annotation(90, "a"), {"question_id": 91, "image_id": 9}], "'answers'"),
        (None, [annotation(90, "a"), annotation(91, 3)], "'answer' must be a str"),
    ],
)
def test_a_damaged_record_is_counted_in_its_place(
    files, questions, annotations, reason
):
    config = files(questions, annotations)

    first, second, *rest = talks(config, **SKIP)

    assert said(first)[1] in ("cat", "a")
    assert len(reasons([second])) == 1
    assert re.search(reason, second.reason), second.reason
    assert all("no question" in text for text in reasons(rest))
    with pytest.raises(DataError, match=rf"sample 1 of 'q'.*{reason}"):
        talks(config)


def test_an_annotation_without_question_is_counted(files):
    config = files([question(90)])

    found = talks(config, **SKIP)

    assert reasons(found) == ["annotation 91 belongs to no question."]


@pytest.mark.parametrize("name", ["q.json", "a.json"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[: len(b) // 2], "is not valid JSON.*cut"),
        (lambda b: b"", "is not valid JSON"),
        (lambda b: b"[]", "holds a list, expected a dict"),
        (lambda b: b"{}", "expected a list '(questions|annotations)'"),
        (lambda b: b"\xff\xfe" + b, "is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(files, tmp_path, name, change, message):
    config = files()
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(ValueError, match=rf"dataset 'q': .*{name}'.*{message}"):
        talks(config, **SKIP)


def test_a_missing_answer_file_is_named(files):
    with pytest.raises(FileNotFoundError, match=r"dataset 'q': .*gone\.json' does not"):
        talks(files(), answer_file="gone.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(group="picture"), r"group='picture': expected one of \['question'"),
        (dict(image_name="a.jpg"), r"expected '\{image_id\}' in it"),
        (dict(image_name="{name}.jpg"), "does not fit the image id"),
    ],
)
def test_wrong_options_are_named(files, options, message):
    with pytest.raises(ValueError, match=message):
        VQAv2Dataset(**{k: v for k, v in files().items() if k != "type"}, **options)


def test_okvqa_reads_raw_answers(tmp_path):
    _, (config,) = written("okvqa", tmp_path, num=2)

    first = said(talks(config)[0])[1]

    assert said(talks(config, answer_field="raw_answer")[0])[1] == first.capitalize()
    with pytest.raises(ValueError, match="answer_field='x': expected one of"):
        OKVQADataset("q.json", answer_field="x")


def test_rows_are_made_once(files, monkeypatch):
    config = files()
    first = [said(t) for t in talks(config)]
    monkeypatch.setattr(VQAv2Dataset, "_records_of_file", None)

    assert [said(t) for t in talks(config)] == first
    with pytest.raises(TypeError):
        talks(config, group="image")
