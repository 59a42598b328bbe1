"""Train and test a family of configs with several seeds, into one table.

    python tools/analysis/ablate.py configs/ablations/tiny_scenes --seeds 3

Runs tools/train.py and tools/test.py per config and seed. Give the command again
to go on: finished runs are skipped, interrupted ones resumed. A config whose
load_from names another config of the family is trained after it, from the work
dir of the same seed. Writes ablation.md, .csv and .png into the work dir.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOOLS.parent))

from mmvlm.utils.entry import catch_signals, run_tool, user_errors

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

import mmvlm  # noqa: F401  isort: skip

from ablation_runs import Ablation
from ablation_table import choose_metrics, collect, markdown, write_tables


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", help="config files, or folders of them")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--work-dir", help="default: work_dirs/ablations/<first name>")
    parser.add_argument("--parent", help="name of the config to compare with")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="as in '*/accuracy*'",
    )
    parser.add_argument(
        "--blind",
        action="store_true",
        help="test first seeds also with the images of other questions",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan only")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="for all"
    )
    return parser.parse_args(argv)


def show_plan(ablation: Ablation) -> None:
    """Print runs in their order, with their commands where they will be run."""
    for run in ablation.runs.values():
        needs = "".join(f", after {name}" for name in run.variant.loads.values())
        print(f"{run.variant.name} seed {run.seed}: {run.status}{needs}")
        if run.status != "finished":
            for command in ablation.commands(run):
                print(f"    {shlex.join(command)}")
    print()


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    name = Path(os.path.abspath(args.configs[0])).stem
    work_dir = args.work_dir or os.path.join("work_dirs", "ablations", name)
    failed = []
    try:
        ablation = Ablation(
            args.configs,
            work_dir,
            tools=TOOLS,
            seeds=args.seeds,
            options=args.cfg_options,
            parent=args.parent,
            blind=args.blind,
        )
        if args.dry_run:
            show_plan(ablation)
        else:
            failed = ablation.run(args.jobs, lambda text: print(text, flush=True))
        lines = collect(ablation)
        metrics = choose_metrics(lines, args.metrics)
    except user_errors() as error:
        print(error, file=sys.stderr)
        return 1
    if args.dry_run:
        print(markdown(lines, metrics))
        return 0
    files = write_tables(ablation, lines, metrics)
    print("\n" + files["md"].read_text(encoding="utf-8"))
    print("written: " + ", ".join(str(path) for path in files.values()))
    for run in failed:
        print(f"{run.variant.name} seed {run.seed}: {run.status}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_tool(main)
