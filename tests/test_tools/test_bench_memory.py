"""The benchmark of memory over many steps."""

from argparse import ArgumentParser

import pytest
from benchmarks import memory as bench_memory


def rows(*mib):
    return [dict(step=n, mib=value) for n, value in enumerate(mib, 1)]


def test_growth_is_that_of_the_second_half():
    assert bench_memory.growth(rows(500, 900, 1000, 1010)) == pytest.approx(0.01)
    assert "+1.0% (at most 3%)" in bench_memory.table(rows(500, 900, 1000, 1010))[-1]


@pytest.mark.slow
def test_it_trains_and_reads_as_often_as_asked(capsys):
    parser = ArgumentParser()
    bench_memory.add_arguments(parser)
    args = "--steps 4 --points 2 --batch 2 --scenes 40"

    found = list(bench_memory.run(parser.parse_args(args.split())))

    assert [row["step"] for row in found] == [2, 4]
    assert all(row["mib"] > 100 for row in found)
    assert capsys.readouterr().out == ""
