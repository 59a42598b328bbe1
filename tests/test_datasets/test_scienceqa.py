"""ScienceQA: problems, splits, and the forms of its questions."""

import pytest
from qa_helpers import (
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

PROBLEM = dict(
    question="Which is a fish?",
    choices=["a cat", "a pike", "a bee"],
    answer=1,
    hint="Look at  the image.",
    image="image.png",
    task="closed choice",
    grade="grade2",
    subject="natural science",
    topic="biology",
    category="animals",
    skill="fish",
    lecture="Fish swim.",
    solution="A pike swims.",
    split="train",
)
OPTIONS = "Options: (A) a cat (B) a pike (C) a bee"


@pytest.fixture
def problems(tmp_path):
    def write(*changes, splits=None):
        table = {str(n): {**PROBLEM, **c} for n, c in enumerate(changes or ({},))}
        dump(tmp_path / "problems.json", table)
        dump(tmp_path / "pid_splits.json", splits or dict(train=list(table)))
        return dict(
            type="ScienceQADataset",
            data_root=str(tmp_path),
            ann_file="problems.json",
            split="train",
        )

    return write


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back(tmp_path, split):
    written("scienceqa", tmp_path, "test" if split == "train" else "train", num=3)
    samples, (config,) = written("scienceqa", tmp_path, split, num=9)

    found = talks(config)

    wanted = [(s, n) for s in samples for n in range(min(2, len(questions_of(s))))]
    assert len(found) == len(wanted)
    for talk, (sample, number) in zip(found, wanted, strict=True):
        choices, place = choices_of(sample, number)
        ask, answer = said(talk)
        context, question, options = ask.split("\n")
        assert question == f"Question: {questions_of(sample)[number].text}"
        assert answer == f"The answer is {'ABCD'[place]}."
        assert all(choice in options for choice in choices)
        assert choices[place] == questions_of(sample)[number].answer
        assert len(talk.images) == (number == 0)
        assert (context == "Context: N/A") == (number == 0)
    assert len([p for p in make_images(config) if p]) == len(
        talks(config, with_image=True)
    )


@pytest.mark.parametrize(
    ("form", "ask", "answer"),
    [
        (
            "CQM-A",
            f"Context: Look at the image.\nQuestion: Which is a fish?\n{OPTIONS}",
            "The answer is B.",
        ),
        (
            "QCM-LEA",
            f"Which is a fish?\nContext: Look at the image.\n{OPTIONS}",
            "Fish swim. A pike swims. The answer is B.",
        ),
        (
            "QCMLE-AL",
            f"Which is a fish?\nContext: Look at the image.\n{OPTIONS}\n"
            "BECAUSE: Fish swim. A pike swims.",
            "The answer is B. BECAUSE: A pike swims.",
        ),
        (
            "QCLM-AE",
            "Which is a fish?\nContext: Look at the image.\nBECAUSE: Fish swim.\n"
            f"{OPTIONS}",
            "The answer is B. BECAUSE: Fish swim.",
        ),
        (
            "QCM-LEPA",
            f"Which is a fish?\nContext: Look at the image.\n{OPTIONS}",
            "LECTURE: Fish swim.\nSOLUTION: A pike swims.\n###\nANSWER: B.",
        ),
    ],
)
def test_forms(problems, form, ask, answer):
    task = dict(type="ScienceQuestion", form=form)

    (talk,) = talks(problems(), task=task)

    assert said(talk) == [ask, answer]
    assert talk.images == ["train/0/image.png"]


def test_what_is_missing_leaves_no_trace(problems):
    bare = dict(hint="", lecture="", solution="", image=None)

    for form, answer in [
        ("QCML-ALE", "The answer is B."),
        ("QCM-LEPA", "###\nANSWER: B."),
    ]:
        (talk,) = talks(problems(bare), task=dict(type="ScienceQuestion", form=form))
        assert said(talk) == [f"Which is a fish?\nContext: N/A\n{OPTIONS}", answer]
        assert talk.images == []


def test_the_letter_alone_as_llava_15_asks(problems):
    task = dict(type="ScienceQuestion", letter_only=True, suffix="Letter.")

    (talk,) = talks(problems(), task=task)

    assert said(talk)[0].endswith(f"{OPTIONS}\nLetter.") and said(talk)[1] == "B"


def test_rationale_as_chain_of_thought(problems):
    task = dict(
        type="MultipleChoice",
        hint_line="Context: {hint}",
        answer_format="{rationale} So the answer is {letter}.",
    )

    first, second = talks(problems({}, dict(solution="")), task=task)

    assert said(first) == [
        "Context: Look at  the image.\nWhich is a fish?\nA. a cat\nB. a pike\nC. a bee",
        "A pike swims. So the answer is B.",
    ]
    assert second.kind == "nothing to ask" and "no rationale" in second.reason


def test_images_and_splits(problems):
    splits = dict(train=["0"], minitrain=["1", "0"])
    config = problems({}, dict(image=None), splits=splits)

    assert len(talks(config)) == 1
    assert [t.id for t in talks(config, split="minitrain")] == ["1", "0"]
    assert [t.id for t in talks(config, split="minitrain", with_image=True)] == ["0"]
    named = talks(config, image_name="{image_id}/{file}")
    assert named[0].images == ["0/image.png"]
    with pytest.raises(
        ValueError, match=r"has no split 'val': \['minitrain', 'train'\]"
    ):
        talks(config, split="val")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(answer=3), r"'answer' must lie in 0..2, got 3"),
        (dict(choices="abc"), "'choices' must be a list"),
        (dict(hint=3), "'hint' must be a text"),
        (dict(question=""), "'question' is an empty text"),
        (dict(image=7), "'image' must be a str"),
    ],
)
def test_a_damaged_problem_is_counted(problems, change, reason):
    found = talks(problems({}, change), **SKIP)

    assert len(found) == 2 and reason in reasons(found)[0]


def test_a_listed_problem_that_is_missing_is_counted(problems):
    found = talks(problems({}, splits=dict(train=["0", "77"])), **SKIP)

    assert "lists it, the problems lack it" in found[1].reason and found[1].id == "77"


def test_a_cut_file_is_named(problems, tmp_path):
    config = problems()
    (tmp_path / "pid_splits.json").write_text('{"train": ["0"')

    with pytest.raises(ValueError, match=r"pid_splits\.json' is not valid JSON.*cut"):
        talks(config)
