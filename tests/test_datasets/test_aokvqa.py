"""A-OKVQA: letters, turned choices, direct answers and rationales."""

import pytest
from qa_helpers import (
    LETTER,
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

from mmvlm.datasets.tiny_scenes.questions import choices_of, questions_of


def question(**change):
    row = dict(
        split="train",
        image_id=299207,
        question_id="22MexNkBPpdZGX6sxbxVBH",
        question="What is it?",
        choices=["ride", "motorcycle", "taxi", "delivery"],
        correct_choice_idx=1,
        direct_answers=["taxi", "ride", "ride"],
        difficult_direct_answer=False,
        rationales=["It has two wheels.", "Wheels."],
    )
    return {**row, **change}


@pytest.fixture
def config(tmp_path):
    def write(*rows):
        dump(tmp_path / "q.json", rows)
        return dict(type="AOKVQADataset", data_root=str(tmp_path), ann_file="q.json")

    return write


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back(tmp_path, split):
    samples, (config,) = written("aokvqa", tmp_path, split, num=9)

    found = talks(config)

    wanted = [(s, n) for s in samples for n in range(len(questions_of(s)))]
    for talk, (sample, number) in zip(found, wanted, strict=True):
        choices, place = choices_of(sample, number)
        options = [f"{'ABCD'[n]}. {choice}" for n, choice in enumerate(choices)]
        question = questions_of(sample)[number]
        assert said(talk) == [
            "\n".join([question.text, *options, LETTER]),
            "ABCD"[place],
        ]
    assert len(make_images(config)) == len(wanted)


def test_choices_are_turned_once_each(config):
    found = talks(config(question()), rotate_choices=True)

    assert [t.id[22:] for t in found] == ["", "-r1", "-r2", "-r3"]
    assert [said(t)[1] for t in found] == ["B", "A", "D", "C"]
    for talk in found:
        lines, letter = said(talk)[0].split("\n"), said(talk)[1]
        assert f"{letter}. motorcycle" in lines
    assert len({tuple(said(t)) for t in found}) == 4
    assert found[0].images == ["000000299207.jpg"]


def test_shuffled_choices_follow_the_seed(config):
    task = dict(type="MultipleChoice", shuffle=True)
    cfg = config(question())

    seen = [said(talks(cfg, task=task, seed=seed)[0]) for seed in range(12)]

    assert len({tuple(x) for x in seen}) > 4
    for ask, letter in seen:
        assert f"{letter}. motorcycle" in ask.split("\n")
    assert seen[3] == said(talks(cfg, task=task, seed=3)[0])


def test_direct_answers_and_rationales(config):
    direct = dict(type="VisualQuestionAnswering", suffix=SHORT)
    thought = {**direct, "answer_format": "{rationale} So {answer}."}
    cfg = config(question())

    assert said(talks(cfg, task=direct)[0])[1] == "ride"
    assert said(talks(cfg, task=thought)[0])[1] == "It has two wheels. So ride."
    meta = talks(cfg)[0].meta
    assert meta["rationales"] == ["It has two wheels.", "Wheels."]
    assert meta["choices"][1] == "motorcycle" and meta["choice"] == 1


def test_hidden_answers_leave_the_question(config):
    row = question()
    for key in ("correct_choice_idx", "direct_answers", "rationales"):
        del row[key]

    (talk,) = talks(config(row), rotate_choices=False)

    assert [turn.role for turn in talk.turns] == ["user"]
    found = talks(config(row, row), group="image", **SKIP)
    assert "only the last one of a dialogue may wait" in reasons(found)[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(correct_choice_idx=4), "must lie in 0..3"),
        (dict(correct_choice_idx=True), "must be a int"),
        (dict(choices=["one"]), "must be at least two"),
        (dict(direct_answers=[1]), "must be a list of texts"),
        (dict(image_id=2.5), "'image_id' must be"),
    ],
)
def test_a_damaged_question_is_counted(config, change, reason):
    found = talks(config(question(), question(**change)), **SKIP)

    assert len(found) == 2 and reason in reasons(found)[0]


def test_a_file_that_is_no_list_is_named(config):
    cfg = config()
    dump(__import__("pathlib").Path(cfg["data_root"]) / "q.json", {"a": 1})

    with pytest.raises(ValueError, match=r"q\.json' holds a dict, expected a list"):
        talks(cfg)
