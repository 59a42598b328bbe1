"""GRES's scores: against the plain rule on pixels, and of records."""

import numpy as np
import pytest

from mmvlm.evaluation.functional.generalized_masks import (
    generalized_totals,
    judge_generalized,
)
from mmvlm.evaluation.scorers.generalized_masks import GeneralizedMaskScorer
from mmvlm.structures.masks import mask_to_rle

SIZE = (12, 15)


def cases(number=200, seed=0):
    """Pairs of pixels, some without any, and what a classifier says beside them."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        pair = []
        for _ in range(2):
            x, y = rng.integers(0, 10, 2)
            mask = np.zeros(SIZE, bool)
            mask[y : y + rng.integers(2, 8), x : x + rng.integers(2, 8)] = True
            pair.append(mask & (rng.random() < 0.7))
        found.append((*pair, bool(rng.random() < 0.3)))
    return found


def plain(rows):
    """The rule in words: one pair after the other, dense."""
    ious, inside, union = [], 0, 0
    right, seen = dict(none=0, some=0), dict(none=0, some=0)
    hits = {0.7: 0, 0.8: 0, 0.9: 0}
    for prediction, truth, says_none in rows:
        both = int((prediction & truth).sum())
        either = int((prediction | truth).sum())
        kind = "some" if truth.any() else "none"
        seen[kind] += 1
        right[kind] += says_none == (kind == "none")
        if kind == "none":
            ious.append(1.0 if says_none else 0.0)
            union += 0 if says_none else either
            continue
        both = 0 if says_none else both
        ious.append(both / either if either else 0.0)
        inside, union = inside + both, union + either
        for level in hits:
            hits[level] += ious[-1] >= level
    return dict(
        giou=np.mean(ious),
        ciou=inside / union,
        n_acc=right["none"] / seen["none"],
        t_acc=right["some"] / seen["some"],
        **{f"pr@{level}": count / seen["some"] for level, count in hits.items()},
    )


def rle(mask):
    return mask_to_rle(mask.astype(np.uint8))


def test_totals_are_those_of_the_plain_rule():
    rows = cases()
    own = [judge_generalized(rle(p), rle(t), says_none=none) for p, t, none in rows]
    assert generalized_totals(own) == pytest.approx(plain(rows))

    by_mask = [judge_generalized(rle(p), rle(t)) for p, t, _ in rows]
    expected = plain([(p, t, not p.any()) for p, t, _ in rows])
    assert generalized_totals(by_mask) == pytest.approx(expected)


def test_without_an_empty_target_there_is_no_accuracy_of_them():
    full = np.ones(SIZE, bool)
    found = generalized_totals([judge_generalized(rle(full), rle(full))])

    assert (found["n_acc"], found["t_acc"], found["giou"]) == (0, 0, 1)
    assert set(generalized_totals([]).values()) == {0.0}


def record(number, reference, *masks, finish="stop"):
    regions = [dict(kind="mask", rles=[mask]) for mask in masks]
    return dict(
        uid=f"r{number}",
        cluster=f"c{number % 3}",
        reference=rle(reference),
        text="",
        finish=finish,
        meta=dict(pred_regions=regions),
    )


def test_a_reply_is_the_union_of_its_masks_and_none_without_any():
    left, right, none = (np.zeros(SIZE, bool) for _ in range(3))
    left[:4, :5], right[6:, 8:] = True, True
    scorer = GeneralizedMaskScorer()
    records = [
        record(0, left | right, rle(left), rle(right)),
        record(1, none),
        record(2, none, rle(none)),
        record(3, none, rle(left)),
        record(4, left),
        record(5, left, dict(size=[3, 3], counts="09")),
        record(6, none, finish="error"),
        record(7, left, finish="error"),
    ]

    verdicts = [scorer.verdict(one) for one in records]
    totals = scorer.totals(records, verdicts)

    assert [one["score"] for one in verdicts] == [1, 1, 1, 0, 0, 0, 0, 0]
    assert [one["parsed"] for one in verdicts] == [True] * 5 + [False] * 3
    assert totals.metrics["giou"] == pytest.approx(100 * 3 / 8)
    assert totals.metrics["n_acc"] == pytest.approx(100 * 2 / 4)
    assert totals.metrics["t_acc"] == pytest.approx(100 * 1 / 4)
    area = (left | right).sum()
    union = area + left.sum() * 4
    assert totals.metrics["ciou"] == pytest.approx(100 * area / union)
    assert totals.metrics["no_target"] == 4 and totals.metrics["num"] == 8
    for rule in ("giou", "ciou"):
        scorer = GeneralizedMaskScorer(rule)
        totals = scorer.totals(records, verdicts)
        value = totals.statistic(totals.units.sum(0))
        assert float(value) == pytest.approx(totals.metrics[rule])


def test_a_question_that_could_not_be_read_is_wrong():
    some = np.ones(SIZE, bool)
    lost = dict(record(1, some, finish="error"), reference="")
    records = [record(0, some, rle(some)), lost]
    scorer = GeneralizedMaskScorer()

    totals = scorer.totals(records, [scorer.verdict(one) for one in records])

    ciou = pytest.approx(100 * some.size / (some.size + 1))  # a pixel was missed
    expected = dict(giou=50, ciou=ciou, no_target=0, num=2, parse_failures=1)
    assert {key: totals.metrics[key] for key in expected} == expected


def test_the_reference_answers_itself():
    none, some = np.zeros(SIZE, bool), np.ones(SIZE, bool)
    scorer = GeneralizedMaskScorer()
    for mask in (none, some):
        one = record(0, mask)
        one["meta"] = dict(scorer.reference_answer(one))
        assert scorer.verdict(one)["score"] == 1
