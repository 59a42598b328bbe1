"""VizWiz: one question per photograph, some without an answer."""

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

from mmvlm.datasets.readers.vizwiz import UNANSWERABLE
from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import questions_of


def question(**change):
    answers = ["unanswerable"] * 4 + ["beer"] * 3 + ["can", "a can", "soda"]
    row = dict(
        image="VizWiz_train_00000001.jpg",
        question="What is this? Thank you.",
        answers=[dict(answer=a, answer_confidence="maybe") for a in answers],
        answer_type="unanswerable",
        answerable=0,
    )
    return {**row, **change}


@pytest.fixture
def config(tmp_path):
    def write(*rows):
        dump(tmp_path / "train.json", rows)
        file = dict(data_root=str(tmp_path), ann_file="train.json")
        return dict(type="VizWizDataset", **file)

    return write


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back(tmp_path, split):
    samples, (config,) = written("vizwiz", tmp_path, split, num=9)

    found = talks(config)

    unanswerable = 0
    for talk, sample in zip(found, samples, strict=True):
        text, *suffix = said(talk)[0].split("\n")
        assert suffix == [UNANSWERABLE, SHORT]
        short = [q for q in questions_of(sample) if q.task != "finding"]
        if image_number(sample) % 4 and short:
            question = short[0]
            assert [text, said(talk)[1]] == [question.text, question.answer]
        else:
            unanswerable += said(talk)[1] == "unanswerable"
    assert unanswerable >= 2 and len(make_images(config)) == len(samples)


def test_votes_decide(config):
    cfg = config(question())
    task = dict(type="VisualQuestionAnswering", answer="random")

    assert said(talks(cfg)[0])[1] == "unanswerable"
    drawn = {said(talks(cfg, task=task, seed=seed)[0])[1] for seed in range(30)}
    assert {"unanswerable", "beer"} < drawn
    assert talks(cfg)[0].meta["answerable"] == 0


def test_the_test_split_hides_answers(config):
    (talk,) = talks(config(dict(image="VizWiz_test_00000000.jpg", question="Who?")))

    assert len(talk.turns) == 1 and talk.id == "VizWiz_test_00000000.jpg"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(answers=["beer"]), "expected a record"),
        (dict(answers=[{}]), "no field 'answer'"),
        (dict(answers="beer"), "'answers' must be a list"),
        (dict(image=""), "'image' is an empty text"),
        (dict(question=None), "'question' must be a str"),
    ],
)
def test_a_damaged_question_is_counted(config, change, reason):
    found = talks(config(question(), question(**change)), **SKIP)

    assert len(found) == 2 and reason in reasons(found)[0]


@pytest.mark.parametrize("content", [b"[{", b"{}", b"\xff[]"])
def test_a_file_that_cannot_be_read_is_named(config, tmp_path, content):
    cfg = config(question())
    (tmp_path / "train.json").write_bytes(content)

    with pytest.raises(ValueError, match=r"dataset 'train': .*train\.json'"):
        talks(cfg)
