"""MathVista: bare answers, what a judge extracts, the form they are compared in."""

import pytest

from mmvlm.evaluation.functional.mathvista import bare_answer, normalised_answer
from mmvlm.registry import SCORERS

OPTIONS = ["left of it", "right of it", "above"]


def record(text, reference, *, options=None, kind="text", replies=None, **meta):
    meta |= dict(options=options, answer_type=kind)
    found = dict(uid="u", question="Q?", text=text, reference=reference, meta=meta)
    found |= dict(finish="stop", cluster=None)
    return found if replies is None else {**found, "judge_replies": replies}


@pytest.mark.parametrize(
    ("text", "options", "kind", "expected"),
    [
        ("", None, "text", ""),
        ("above", OPTIONS, "text", "above"),
        ("Above", OPTIONS, "text", None),
        (" 12 ", None, "integer", "12"),
        ("12.0", None, "integer", None),
        ("12", None, "float", "12.0"),
        ("1e400", None, "float", "inf"),
        ("about 12", None, "float", None),
        ("[1, 2]", None, "list", None),
    ],
)
def test_an_answer_alone_needs_no_judge(text, options, kind, expected):
    assert bare_answer(text, options, kind) == expected


@pytest.mark.parametrize(
    ("extraction", "options", "kind", "precision", "expected"),
    [
        ("(b) right of it (A)", OPTIONS, "text", None, "right of it"),
        ("C\n", OPTIONS, "text", None, "above"),
        ("c", OPTIONS, "text", None, "above"),  # nearest: a small letter is none
        ("D", OPTIONS, "text", None, "above"),  # no such option: the nearest text
        ("left of", OPTIONS, "text", None, "left of it"),
        ("", OPTIONS, "text", None, "above"),
        ("7.9", None, "integer", None, "7"),
        ("-3e2", None, "integer", None, "-300"),
        ("inf", None, "integer", None, None),
        ("nan", None, "integer", None, None),
        ("seven", None, "integer", None, None),
        ("1.25", None, "float", 1.0, "1.2"),
        ("2", None, "float", 2.0, "2.0"),
        ("2.4", None, "float", 0, "2.0"),
        ("2.4", None, "float", None, "2"),
        ("2 m", None, "float", 2.0, None),
        ("[1, 2]", None, "list", None, "[1, 2]"),
        (" a cat", None, "text", None, " a cat"),
    ],
)
def test_answers_take_the_form_of_the_reference(
    extraction, options, kind, precision, expected
):
    assert normalised_answer(extraction, options, kind, precision) == expected


def test_only_what_a_judge_must_read_is_asked_and_its_failures_are_no_scores():
    scorer = SCORERS.build(dict(type="MathVistaScorer"))
    records = [
        record("7", "7", kind="integer", skills=["a", "b"], task="t"),
        record("It is 8.", "8", kind="integer", replies=["8"], skills=["b"], task="t"),
        record("It is 8.", "8", kind="integer", replies=["9", "8"], skills=["a"]),
        record("Hm.", "x", replies=[None], skills=["a"]),
        record("", "7", kind="integer", skills=[]),
        {**record("It is 8.", "8", kind="integer"), "finish": "error"},
    ]
    needing = [scorer.needs_judge(one) for one in records]
    assert needing == [False, True, True, True, False, False]
    asked = scorer.messages(records[1])[0]["content"]
    assert asked.endswith("Q?\n\nReply: It is 8.\n\nExtracted answer: ")

    verdicts = [scorer.verdict(one) for one in records]
    assert [one["score"] for one in verdicts] == [1, 1, 0.5, 0, 0, 0]
    assert [one["parsed"] for one in verdicts] == [True] * 3 + [False, True, False]
    totals = scorer.totals(records, verdicts)
    assert totals.metrics["acc"] == pytest.approx(100 * 2.5 / 5)
    assert totals.metrics["judge_failed"] == 1
    assert totals.metrics["skills/a"] == 75 and totals.metrics["skills/b"] == 100
    assert totals.metrics["task/t"] == 100
    assert totals.statistic(totals.units.sum(axis=0)) == totals.metrics["acc"]
