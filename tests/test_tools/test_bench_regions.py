"""The benchmark of regions: equality first, then rows with their musts."""

import argparse
import json

import pytest
from benchmarks import regions as bench


def _args(*options):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    small = ["--width", "16", "--points", "32", "--stages", "8", "4", "--regions", "3"]
    small += ["--neighbours", "5", "4", "--repeats", "1"]
    return parser.parse_args([*small, *options])


def test_rows_hold_ratios_and_the_table_shows_the_musts():
    rows = list(bench.run(_args()))

    assert json.dumps(rows) and [row["what"] for row in rows] == list(bench.MUSTS)
    assert all(row["ratio"] > 0 for row in rows)
    text = "\n".join(bench.table(rows))
    assert ">=4" in text and ">=5" in text and ">=100" in text


def test_a_region_of_the_released_size_is_hundreds_of_times_smaller():
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)

    (row,) = bench.run(parser.parse_args(["--rows", "bytes"]))

    # A box, 512 points, their number and two draws; 640 x 480 float64.
    assert row["ours"] == 16 + 512 * 8 + 8 + 8 and row["plain"] == 640 * 480 * 8
    assert row["ratio"] > row["must"]


def test_a_sampler_that_differs_is_an_error(monkeypatch):
    right = bench.variants

    def wrong(*case):
        ways = right(*case)
        return {**ways, "ours": lambda: ways["plain"]() * 1.01}

    monkeypatch.setattr(bench, "variants", wrong)

    with pytest.raises(RuntimeError, match="output differs"):
        list(bench.run(_args("--rows", "sampler")))
