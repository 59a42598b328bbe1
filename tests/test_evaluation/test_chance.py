"""What answers that ignore the image score, and that intervals hold it."""

import numpy as np
import pytest

from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.functional.chance import others_of_a_kind, question_kind
from mmvlm.evaluation.functional.intervals import bootstrap_interval
from mmvlm.evaluation.scoring import score
from mmvlm.evaluation.store import Answers
from mmvlm.evaluation.tables import shown
from mmvlm.registry import SCORERS

COLOURS = ("red", "green", "blue", "white")


def record(place, question, reference, text, **meta):
    return dict(
        uid=f"set/{place}",
        index=place,
        question=question,
        reference=reference,
        text=text,
        finish="stop",
        image=f"{place // 2}.jpg",
        cluster=place // 2,
        meta=dict(meta, question=question),
    )


def chance_of(scorer, records):
    scorer = SCORERS.build(dict(type=scorer) if isinstance(scorer, str) else scorer)
    verdicts = [scorer.verdict(one) for one in records]
    return scorer.chance(records, verdicts), scorer.totals(records, verdicts)


def test_questions_are_told_apart_by_first_words_and_by_what_they_offer():
    side = "Is the red circle left or right of the blue word?\nUse a word or phrase."

    assert question_kind(side, 2) == ("is", "the", ("left", "or", "right"))
    assert question_kind("Is the cup above or below it?", 2) != question_kind(side, 2)
    assert question_kind("Is the cup left or right of it?", 2) == question_kind(side, 2)
    assert question_kind("Red or blue?", 3) == (
        "red",
        "or",
        "blue",
        ("red", "or", "blue"),
    )
    assert question_kind(side, 0) == question_kind("", 0) == ()
    assert question_kind("", 3) == ()


def test_another_question_of_the_finest_kind_is_drawn():
    questions = ["How many cats are there?"] * 3 + ["How many dogs are there?"]
    questions += ["What is it?"]

    others = others_of_a_kind(questions, 200, seed=1)

    assert others.shape == (200, 5)
    assert (others != np.arange(5)).all()
    assert set(others[:, 0]) == {1, 2}  # of cats
    assert set(others[:, 3]) == {0, 1, 2}  # "how many"
    assert set(others[:, 4]) == {0, 1, 2, 3}  # any
    assert np.array_equal(others, others_of_a_kind(questions, 200, seed=1))
    with pytest.raises(ValueError, match="1 questions: expected another one"):
        others_of_a_kind(["What?"], 3)


def test_short_answers_keep_what_the_question_says_by_itself():
    records = [
        record(n, "What colour is it?", COLOURS[n % 4], COLOURS[n % 4])
        for n in range(80)
    ]
    records += [record(80 + n, "Is it on?", "yes", "yes") for n in range(20)]

    chance, totals = chance_of("ExactScorer", records)

    assert totals.metrics["acc"] == 100
    # Another of its kind: 19 of 79 have the same colour, all say yes.
    assert chance == pytest.approx(100 * (0.8 * 19 / 79 + 0.2), abs=1.5)
    assert chance_of("ExactScorer", records[:1])[0] is None


@pytest.mark.parametrize("scorer", ["GQAScorer", "TenAnswerScorer"])
def test_the_interval_of_blind_answers_holds_chance(scorer):
    generator = np.random.default_rng(5)
    held, shares = 0, np.array([0.5, 0.3, 0.15, 0.05])
    for _ in range(40):
        labels, texts = generator.choice(COLOURS, (2, 300), p=shares)
        wrap = (lambda one: [one] * 10) if scorer == "TenAnswerScorer" else str
        records = [
            record(n, "What colour?", wrap(str(a)), str(b))
            for n, (a, b) in enumerate(zip(labels, texts, strict=True))
        ]
        chance, totals = chance_of(scorer, records)
        found = bootstrap_interval(
            *(totals.units, totals.clusters, totals.statistic), draws=400, seed=0
        )
        held += found.low <= chance <= found.high
    assert held >= 34


def test_choices_are_guessed_among_the_options_of_each():
    sizes = (2, 2, 4, 4, 5)
    records = [
        record(n, "Which?", "A", "none", options=COLOURS[:2] * (size // 2))
        for n, size in enumerate(sizes)
    ]
    for one, size in zip(records, sizes, strict=True):
        one["meta"].update(options=[str(n) for n in range(size)], category=str(size))

    mean = np.mean([1 / size for size in sizes])
    weighed = dict(type="ChoiceScorer", average="categories")
    assert chance_of("ChoiceScorer", records)[0] == pytest.approx(100 * mean)
    assert chance_of(weighed, records)[0] == pytest.approx(100 * (0.5 + 0.25 + 0.2) / 3)
    assert chance_of(dict(type="ChoiceScorer", average="groups"), records)[0] is None
    open_ones = (record(7, "Why?", "a", "a"), record(8, "Why?", "a", "b"))  # dealt a, b
    for one in open_ones:
        one["meta"].update(options=[], category="2")
    found = chance_of("MMMUScorer", [*records[1:], *open_ones])[0]
    assert found == pytest.approx(100 * (5 * mean - 0.5 + 1) / 6)


def test_questions_that_failed_are_not_guessed():
    """Nor are their empty texts dealt to others."""
    failed = dict(finish="error", text="")
    two = record(0, "Which?", "A", "none", options=["x", "y"], category="2")
    pair = [two, {**two, **failed, "uid": "set/1", "index": 1}]
    assert chance_of("ChoiceScorer", pair)[0] == pytest.approx(25)
    assert chance_of("MMMUScorer", pair)[0] == pytest.approx(25)

    free = [
        record(n, "Why?", "red", "red", options=[], category="2") for n in range(2, 6)
    ]
    # Read, it has options; unread, nothing is known of it.
    unread = [{**two, **failed, "uid": f"set/{n}", "meta": {}} for n in (6, 7, 8, 9)]
    found = chance_of("MMMUScorer", [*free, *unread])
    assert found[0] == found[1].metrics["acc"] == pytest.approx(50)
    assert chance_of("MMMUScorer", [free[0], *unread])[0] == 0
    short = [*free, *({**one, "question": None} for one in unread)]
    assert chance_of("ExactScorer", short)[0] == pytest.approx(50)
    assert chance_of("ExactScorer", [free[0], *unread])[0] is None


def yes_no(answers, **meta):
    """Return a yes and a no question per image, answered in turn."""
    return [
        record(n, "Is there a cup?", ("yes", "no")[n % 2], text, **meta)
        for n, text in enumerate(answers)
    ]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_yes_falls_on_any_question_as_often_as_it_was_said(share):
    answers = ["yes"] * round(80 * share) + ["no"] * round(80 * (1 - share))
    records = yes_no(answers, category="random")

    f1 = 100 * share / (0.5 + share)  # precision a half, recall the share
    assert chance_of("YesNoScorer", records)[0] == pytest.approx(f1)
    hallusion = [
        dict(one, question_id=f"a_b_c_{n}_0_0") for n, one in enumerate(records)
    ]
    assert chance_of("HallusionBenchScorer", hallusion)[0] == pytest.approx(50)
    seen = yes_no(answers, category="count")
    both = 100 * (0.5 + share * (1 - share))  # accuracy, and both of an image
    assert chance_of("MMEScorer", seen)[0] == pytest.approx(both)
    other = yes_no(answers, category="code_reasoning")
    assert chance_of("MMEScorer", seen + other)[0] == pytest.approx(both)


@pytest.mark.parametrize(
    ("scorer", "chance"),
    [
        (dict(type="YesNoScorer"), 25.0),
        (dict(type="ChoiceScorer", average="groups"), 12.0),
    ],
)
def test_the_row_says_what_the_answers_tell_or_else_what_the_config_does(
    scorer, chance
):
    records = yes_no(["yes"] + ["no"] * 4 + ["maybe not"], category="x", options=["a"])
    benchmark = Benchmark(
        *("set", "Set", "test", "made here"),
        dataset=dict(type="LLaVADataset"),
        scorer=scorer,
        headline="f1" if scorer["type"] == "YesNoScorer" else "acc",
        chance=12.0,
    )

    found = score(benchmark, Answers(records, len(records)), draws=20)

    # A sixth is yes: precision a half, recall a sixth.
    assert found.row["chance"] == pytest.approx(chance)
    assert shown(found.row)["chance"] == f"{chance:.2f}"
