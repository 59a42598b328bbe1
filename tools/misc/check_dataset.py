"""Check datasets sample by sample; exit with 1 for problems, 2 if one cannot open.

    python tools/misc/check_dataset.py CONFIG --split train --out work_dirs/data
    python tools/misc/check_dataset.py --dataset "dict(type='LLaVADataset', ...)"

Ctrl-C prints what was found so far and exits with 130.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, run_tool, user_errors

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

from data_doctor import check_data, render_report, write_files
from data_loading import add_data_arguments, open_from_arguments
from rich.console import Console


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes"
    )
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--fast", action="store_true", help="read heads of images only")
    depth.add_argument("--full", action="store_true", help="decode all (the default)")
    parser.add_argument("--out", default="work_dirs/check_dataset", help="folder")
    parser.add_argument("--num", type=int, help="samples per data set, evenly spread")
    parser.add_argument("--ignore", nargs="+", default=[], metavar="RULE")
    parser.add_argument("--strict", action="store_true", help="warnings are problems")
    parser.add_argument("--examples", type=int, default=3, help="printed per rule")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        opened = open_from_arguments(args)
    except user_errors() as error:
        print(f"cannot open: {error}", file=sys.stderr)
        return 2
    console, clean = Console(), True
    for number, dataset in enumerate(opened.datasets):
        report = check_data(
            dataset,
            training=opened.training,
            bound=opened.processor is not None,
            full=not args.fast,
            workers=args.workers,
            ignore=args.ignore,
            limit=args.num,
            console=Console(stderr=True),
        )
        report.notes += opened.notes
        render_report(report, console, args.examples)
        folder = args.out if number == 0 else f"{args.out}_{number}"
        paths = write_files(report, folder)
        console.print("written: " + ", ".join(paths), markup=False, soft_wrap=True)
        clean &= report.is_clean(args.strict)
        if report.interrupted:
            return 130
    return 0 if clean else 1


if __name__ == "__main__":
    run_tool(main)
