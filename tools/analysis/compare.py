"""Compare two runs over the same benchmarks: differences, and how sure they are."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, run_tool

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

from comparison_page import chance, interval, write_comparison

from mmvlm.evaluation.comparison import Comparison, compare_runs
from mmvlm.utils.text_table import text_table

_HEAD = (
    *("benchmark", "items", "A", "B", "B - A", "95 % interval", "p", "p (Holm)"),
    *("McNemar", "visible", "better", "worse"),
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_a", help="folder that tools/test.py --benchmarks wrote")
    parser.add_argument("run_b", help="another one")
    parser.add_argument("--out", metavar="REPORT.html", help="page with the images")
    parser.add_argument("--draws", type=int, default=10_000, help="of the bootstrap")
    return parser.parse_args(argv)


def row(one: Comparison) -> list[str]:
    better = sum(flip.after > flip.before for flip in one.flips)
    return [
        one.benchmark.name,
        str(one.items),
        f"{one.before:.2f}",
        f"{one.after:.2f}",
        f"{one.difference:+.2f}",
        interval(one),
        *map(chance, (one.p_value, one.adjusted, one.mcnemar)),
        "" if math.isnan(one.detectable) else f"{one.detectable:.2f}",
        str(better),
        str(len(one.flips) - better),
    ]


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    found = compare_runs(args.run_a, args.run_b, draws=args.draws)
    print(text_table([_HEAD, *map(row, found)], rules=[1]))
    print("visible: the smallest difference that such a set shows in 4 of 5 cases.")
    if args.out:
        print(write_comparison(args.out, found, args.run_a, args.run_b))
    return 0


if __name__ == "__main__":
    run_tool(main)
