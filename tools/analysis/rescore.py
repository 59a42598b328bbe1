"""Score answers that are on disk, under any rule; no model is loaded."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, run_tool

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

from mmvlm.apis.rescoring import rescore, write_answers
from mmvlm.evaluation.answer_files import READERS
from mmvlm.evaluation.judging import judge_replies
from mmvlm.evaluation.tables import text

#: What ``--write`` reads; other options are of scores.
_WRITING = {"answers", "benchmark", "allow_partial", "write"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "answers", nargs="+", help="folders of runs, or files of answers"
    )
    parser.add_argument("--benchmark", help="which one; needed for files")
    parser.add_argument("--rule", help="of the scorer, in place of the benchmark's")
    parser.add_argument("--format", default="mmvlm", choices=["mmvlm", *READERS])
    parser.add_argument("--data-root", help="folder that stands in for data")
    parser.add_argument(
        "--allow-partial", action="store_true", help="score what is answered"
    )
    parser.add_argument(
        "--judge-replies", metavar="FILE", help="what judges said, by uid"
    )
    parser.add_argument(
        "--published",
        metavar="CONFIG",
        help="whose published scores stand beside; default: the run's own, and "
        "LLaVA-1.5 7B's beside files of other toolboxes",
    )
    parser.add_argument("--draws", type=int, default=10_000, help="of the interval")
    parser.add_argument("--out", metavar="RESULTS.json", help="write the rows here")
    parser.add_argument(
        "--write",
        nargs=2,
        metavar=("FORMAT", "FOLDER"),
        help="write the answers as another toolbox does; nothing is scored",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.write:
        form, folder = args.write
        defaults = vars(parse_args(["RUN"]))
        for name in sorted({*defaults} - _WRITING):
            if getattr(args, name) != defaults[name]:
                option = f"--{name.replace('_', '-')}"
                sys.exit(f"error: --write scores nothing: leave out {option}.")
        for run in args.answers:
            options = dict(benchmark=args.benchmark, allow_partial=args.allow_partial)
            name = Path(run).resolve().name
            for path in write_answers(run, form, folder, name, **options):
                print(path)
        return 0
    scored = rescore(
        args.answers,
        benchmark=args.benchmark,
        rule=args.rule,
        form=args.format,
        data_root=args.data_root,
        allow_partial=args.allow_partial,
        replies=judge_replies(args.judge_replies) if args.judge_replies else None,
        published=args.published,
        draws=args.draws,
    )
    rows = [one.row for one in scored]
    print(text(rows))
    if args.out:
        Path(args.out).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_tool(main)
