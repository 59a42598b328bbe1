"""The batching benchmark: lengths as stated, costs as defined, musts in the table."""

import argparse
import json

import numpy as np
import pytest
from benchmarks import batching as bench_batching


def _args(*options):
    parser = argparse.ArgumentParser()
    bench_batching.add_arguments(parser)
    return parser.parse_args(["--records", "3000", "--plan-records", "0", *options])


@pytest.mark.parametrize("mean", [714, 944])
def test_mixture_has_the_wanted_mean_and_cap(mean):
    data = bench_batching.SyntheticMixture(20_000, mean, image=576, cap=2048)

    assert data.tokens.mean() == pytest.approx(mean, abs=3)
    assert data.tokens.max() == 2048
    assert data.tokens[data.with_image].min() > 576
    assert 0.05 < 1 - data.with_image.mean() < 0.07
    assert ((data.words < 0) == ~data.with_image).all()
    assert np.corrcoef(abs(data.words), data.tokens - 576 * data.with_image)[0, 1] > 0.8


def test_cost_is_the_slowest_ranks_tokens_over_real_tokens():
    class Data(bench_batching.SyntheticMixture):
        def __init__(self):
            self.tokens = np.array([100, 10, 10, 10])
            self.words = self.tokens

    args = _args("--batch", "2")
    data = Data()

    padded = bench_batching.measure("shuffled, padded", data, args, ranks=2)
    flat = bench_batching.measure("balanced, flat", data, args, ranks=2)

    assert padded["cost"] == pytest.approx(2 * 200 / 130, abs=1e-4)
    assert padded["peak"] == 200 and flat["peak"] == 100
    assert flat["cost"] == pytest.approx(2 * 100 / 130, abs=1e-4)


def test_rows_are_json_and_the_table_shows_the_musts():
    args = _args("--means", "714", "--ranks", "8")

    rows = list(bench_batching.run(args))

    assert [row["scheme"] for row in rows] == list(bench_batching.SCHEMES)
    assert json.dumps(rows)
    costs = {row["scheme"]: row["cost"] for row in rows}
    assert costs["balanced, flat"] < costs["shuffled, flat"] < costs["shuffled, padded"]
    assert min(costs.values()) >= 1
    table = "\n".join(bench_batching.table(rows))
    assert "<=1.03" in table and "<=1.06" in table


def test_planning_time_is_measured():
    rows = list(
        bench_batching.run(
            _args("--means", "714", "--ranks", "8", "--plan-records", "2000")
        )
    )

    assert all(row["plan_seconds"] >= 0 for row in rows)
    assert "(<=3)" in "\n".join(bench_batching.table(rows))
