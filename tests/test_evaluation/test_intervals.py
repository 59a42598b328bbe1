"""Intervals cover the truth, tests err as often as they say."""

import time

import numpy as np
import pytest
from scipy.stats import binomtest

from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.functional import intervals
from mmvlm.evaluation.scorers.base import mean_percent, with_ones
from mmvlm.evaluation.scoring import score
from mmvlm.evaluation.store import Answers


def simulated(generator, clusters=150, spread=1.0, shift=0.0):
    """Draw right and wrong answers, images of 1 to 9 questions, unlike in ease."""
    sizes = generator.integers(1, 10, clusters)
    ease = np.repeat(generator.normal(0.5, spread, clusters), sizes)
    codes = np.repeat(np.arange(clusters), sizes)
    chance = 1 / (1 + np.exp(-ease - shift))
    return chance, codes


def test_interval_of_a_mean_is_the_normal_one():
    generator = np.random.default_rng(0)
    scores = (generator.random(4000) < 0.6).astype(float)
    found = intervals.bootstrap_interval(
        with_ones(scores), np.arange(4000), mean_percent
    )
    error = 100 * scores.std() / np.sqrt(4000)
    assert found.value == pytest.approx(100 * scores.mean())
    assert found.standard_error == pytest.approx(error, rel=0.05)
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.15 * error)


def test_sums_spread_as_those_of_laid_out_resamples():
    generator = np.random.default_rng(0)
    units = generator.integers(0, 3, (60, 2)).astype(float)
    codes = generator.integers(0, 20, 60)
    fast = intervals.resampled_sums(units, codes, 20_000, seed=1)
    sums = np.array([units[codes == c].sum(axis=0) for c in np.unique(codes)])
    rows = generator.integers(0, len(sums), (20_000, len(sums)))
    slow = sums[rows].sum(axis=1)
    assert fast.mean(axis=0) == pytest.approx(slow.mean(axis=0), rel=0.01)
    assert np.cov(fast.T) == pytest.approx(np.cov(slow.T), rel=0.06, abs=1)


def test_seeds_decide_and_the_order_of_units_does_not():
    generator = np.random.default_rng(0)
    units, codes = with_ones(generator.random(100)), generator.integers(0, 30, 100)
    order = generator.permutation(100)

    def low(seed, rows=...):
        return intervals.bootstrap_interval(
            units[rows], codes[rows], mean_percent, draws=500, seed=seed
        ).low

    assert low(0) == low(0) != low(1)
    assert low(0, order) == pytest.approx(low(0))
    empty = intervals.resampled_sums(np.zeros((0, 2)), np.zeros(0, int), 5)
    assert mean_percent(empty).tolist() == [0] * 5


def test_paired_interval_sees_what_single_intervals_do_not():
    generator = np.random.default_rng(0)
    chance, codes = simulated(generator, clusters=300, spread=2.0)
    first = (generator.random(len(chance)) < chance).astype(float)
    second = np.maximum(first, generator.random(len(chance)) < 0.05)
    pair = intervals.paired_interval(
        with_ones(first), with_ones(second), codes, mean_percent
    )
    assert pair.value == pytest.approx(100 * (second - first).mean())
    assert pair.low > 0 and pair.p_value < 0.01
    alone = intervals.bootstrap_interval(with_ones(first), codes, mean_percent)
    assert alone.high > alone.value + pair.value
    with pytest.raises(ValueError, match="the same items under the same rule"):
        intervals.paired_interval(
            with_ones(first), with_ones(second[1:]), codes, mean_percent
        )


def test_mcnemar_is_the_exact_binomial_test():
    generator = np.random.default_rng(0)
    for _ in range(20):
        first, second = generator.random((2, 60)) < 0.5
        gained, lost = (second & ~first).sum(), (first & ~second).sum()
        expected = binomtest(int(gained), int(gained + lost)).pvalue
        assert intervals.mcnemar(first, second) == pytest.approx(expected)
    assert intervals.mcnemar([True, False], [True, False]) == 1


def test_holm_steps_down():
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([0.9, 0.8]) == [1, 1] and intervals.holm([]) == []


def test_smallest_detectable_difference():
    assert intervals.smallest_detectable(1.0) == pytest.approx(2.8016, abs=1e-3)
    assert intervals.smallest_detectable(2.0, power=0.5) == pytest.approx(
        3.92, abs=1e-2
    )


@pytest.mark.slow
def test_interval_covers_the_truth_as_often_as_it_says():
    """1,000 clustered sets: 93-97 %; without the clusters far less."""
    covered = {"clustered": 0, "alone": 0}
    truth = _mean_chance()
    for seed in range(1000):
        generator = np.random.default_rng(seed)
        chance, codes = simulated(generator, spread=2.0)
        right = (generator.random(len(chance)) < chance).astype(float)
        found = intervals.bootstrap_interval(
            with_ones(right), codes, mean_percent, draws=800, seed=seed
        )
        covered["clustered"] += found.low <= 100 * truth <= found.high
        error = right.std() / np.sqrt(len(right))
        covered["alone"] += abs(right.mean() - truth) <= 1.96 * error
    assert 930 <= covered["clustered"] <= 970, covered
    assert covered["alone"] < 900, covered


def _mean_chance():
    ease = np.random.default_rng(0).normal(0.5, 2.0, 4_000_000)
    return (1 / (1 + np.exp(-ease))).mean()


@pytest.mark.slow
def test_paired_test_errs_as_often_as_it_says():
    """No difference on 1,000 clustered sets: 3-7 % are called different."""
    wrong = 0
    for seed in range(1000):
        generator = np.random.default_rng(seed)
        chance, codes = simulated(generator, spread=2.0)
        first, second = (generator.random((2, len(chance))) < chance).astype(float)
        found = intervals.paired_interval(
            with_ones(first), with_ones(second), codes, mean_percent, draws=800
        )
        wrong += found.p_value < 0.05
    assert 30 <= wrong <= 70, wrong


@pytest.mark.slow
def test_ten_thousand_draws_over_vqav2_take_seconds():
    generator = np.random.default_rng(0)
    scores = generator.choice([0, 0.3, 0.6, 0.9, 1], 214_354)
    codes = generator.integers(0, 40_504, 214_354)
    start = time.process_time()
    found = intervals.bootstrap_interval(with_ones(scores), codes, mean_percent)
    assert time.process_time() - start < 10
    assert found.low < found.value < found.high


CATEGORIES = dict(type="ChoiceScorer", average="categories")
GROUPED = [
    (dict(type="MMEScorer"), "perception", ("count", "OCR", "scene")),
    (dict(type="YesNoScorer"), "f1", ("random", "popular", "adversarial")),
    (CATEGORIES, "acc", ("art", "jigsaw")),
    (CATEGORIES | dict(weights=dict(a=0.3, b=0.7)), "acc", ("a", "b")),
]


def row_of(config, headline, texts, metas, images):
    """Score answers, each right one being the first text."""
    fields = dict(title="x", split="x", source="x", dataset={}, scorer=config)
    records = [
        dict(
            uid=f"u{number}",
            index=number,
            question_id=number,
            question="What is it?",
            image=f"{image}.jpg",
            cluster=f"{image}.jpg",
            text=texts[number % 3 == 0],
            finish="stop",
            reference=texts[0],
            meta=meta,
        )
        for number, (meta, image) in enumerate(zip(metas, images, strict=True))
    ]
    benchmark = Benchmark(name="x", headline=headline, **fields)
    return score(benchmark, Answers(records, len(records)), draws=2000).row


@pytest.mark.parametrize(("config", "headline", "groups"), GROUPED)
def test_a_group_of_one_image_leaves_no_interval(config, headline, groups):
    """A resample without it has no total; taking it for 0 would shift the interval."""
    texts = ("A", "B") if config["type"] == "ChoiceScorer" else ("yes", "no")
    few, many = (
        row_of(
            *(config, headline, texts),
            [
                dict(category=g, options=["x", "y"])
                for g in groups
                for _ in range(count)
            ],
            range(count * len(groups)),
        )
        for count in (1, 30)
    )

    assert few["interval"] is few["standard_error"] is None and few["score"] is not None
    assert "no interval: too few images or groups" in few["note"]
    low, high = many["interval"]
    assert low < many["score"] < high and "no interval" not in many["note"]


def test_one_image_leaves_no_interval():
    row = row_of(dict(type="ExactScorer"), "acc", ("cat", "dog"), [{}] * 4, [0] * 4)

    assert (row["clusters"], row["score"], row["interval"]) == (1, 50, None)
    assert "no interval" in row["note"]


def test_a_difference_of_too_few_is_none_that_is_proven():
    first, second = np.zeros((4, 2)), np.ones((4, 2))
    found = intervals.paired_interval(first, second, np.zeros(4), mean_percent)

    assert (found.value, found.p_value) == (100, 1) and np.isnan(found.low)
