"""The benchmark of regions: equality first, then rows with their musts."""

import argparse
import json

import benchmark
import numpy as np
import pytest
from benchmarks import masks
from benchmarks import regions as bench


def _args(*options):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    small = ["--width", "16", "--points", "32", "--stages", "8", "4", "--regions", "3"]
    small += ["--neighbours", "5", "4", "--repeats", "1", "--loss-size", "270", "480"]
    small += ["--decoder-width", "16", "--decoder-grid", "4", "--llm-width", "64"]
    small += ["--layer-width", "16", "--layer-regions", "2"]
    small += ["--layers", "1", "--prompts", "2", "--masks", "5", "--vocab", "128"]
    return parser.parse_args([*small, *options])


def test_rows_hold_ratios_and_the_table_shows_the_musts():
    rows = list(bench.run(_args()))

    assert json.dumps(rows) and [row["what"] for row in rows] == list(bench.MUSTS)
    assert all(row["ratio"] > 0 for row in rows)
    text = "\n".join(bench.table(rows))
    assert all(f">={must:g}" in text for must in bench.MUSTS.values() if must)


def test_a_region_of_the_released_size_is_hundreds_of_times_smaller():
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)

    (row,) = bench.run(parser.parse_args(["--rows", "bytes"]))

    # A box, 512 points, their number and two draws; 640 x 480 float64.
    assert row["ours"] == 16 + 512 * 8 + 8 + 8 and row["plain"] == 640 * 480 * 8
    assert row["ratio"] > row["must"]


@pytest.mark.parametrize(
    ("row", "part"), [("decoder", 0), ("loss", 1), ("reply", 0), ("states", 0)]
)
def test_other_results_are_an_error(monkeypatch, row, part):
    compare = masks.check_equal

    def wrong(what, plain, ours, *rest):
        changed = [*ours]
        changed[part] = ours[part] * 1.01 + 0.01
        compare(what, plain, changed, *rest)

    monkeypatch.setattr(masks, "check_equal", wrong)

    with pytest.raises(RuntimeError, match="ours differs from the plain way"):
        if row == "loss":  # measured in a process of its own
            masks.loss_peaks((270, 480))
        else:
            list(bench.run(_args("--rows", row)))


def test_memory_does_not_depend_on_what_the_process_freed_before():
    held = [np.ones(40_000, np.uint8) for _ in range(4000)]
    del held[::2]  # holes in the heap

    row, *_ = bench.run(_args("--rows", "loss"))

    assert row["ratio"] > 1.5


def test_rows_are_written_to_a_file(tmp_path, capsys):
    benchmark.main(["regions", "--rows", "bytes", "--json", str(tmp_path / "rows")])

    (line,) = (tmp_path / "rows").read_text().splitlines()
    assert json.loads(line) == json.loads(capsys.readouterr().out.splitlines()[0])


@pytest.mark.parametrize("row", ["sampler", "layers"])
def test_a_sampler_that_differs_is_an_error(monkeypatch, row):
    right = bench.variants

    def wrong(*case, **options):
        ways = right(*case, **options)
        return {**ways, "ours": lambda: ways["plain"]() * 1.01}

    monkeypatch.setattr(bench, "variants", wrong)

    with pytest.raises(RuntimeError, match="output differs"):
        list(bench.run(_args("--rows", row)))
