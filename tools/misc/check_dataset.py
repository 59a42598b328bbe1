"""Check data sets sample by sample; exit with 1 for problems, 2 if one cannot open.

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

from mmengine.config import DictAction
from rich.console import Console

from mmvlm.apis.data_doctor import check_data, render_report, write_files
from mmvlm.apis.data_loading import (
    OpenedData,
    build_dataset,
    open_config_data,
    parse_dict,
)
from mmvlm.config import ConfigError, load_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="config file or shipped name")
    parser.add_argument("--dataset", help="one reader, as dict(type=..., ...)")
    parser.add_argument("--split", default="train", choices=("train", "val", "test"))
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes"
    )
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument(
        "--fast", action="store_true", help="read heads of pictures only"
    )
    depth.add_argument("--full", action="store_true", help="decode all (the default)")
    parser.add_argument("--out", default="work_dirs/check_dataset", help="folder")
    parser.add_argument("--num", type=int, help="samples per data set, evenly spread")
    parser.add_argument("--ignore", nargs="+", default=[], metavar="RULE")
    parser.add_argument("--strict", action="store_true", help="warnings are problems")
    parser.add_argument("--examples", type=int, default=3, help="printed per rule")
    parser.add_argument("--tiny", action="store_true", help="the config's tiny twin")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="k=v")
    args = parser.parse_args(argv)
    if (args.config is None) == (args.dataset is None):
        parser.error("give a config, or --dataset.")
    return args


def open_data(args: argparse.Namespace) -> OpenedData:
    if args.dataset is not None:
        dataset = build_dataset(parse_dict(args.dataset))
        note = "--dataset has no tokenizer: token lengths were not checked."
        return OpenedData([dataset], args.split == "train", notes=[note])
    cfg = load_config(args.config, args.cfg_options, tiny=args.tiny)
    return open_config_data(cfg, args.split)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        opened = open_data(args)
    except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
        print(f"cannot open: {error}", file=sys.stderr)
        return 2
    console, clean = Console(), True
    for number, dataset in enumerate(opened.datasets):
        report = check_data(
            dataset,
            training=opened.training,
            bound=opened.context is not None,
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
    sys.exit(main())
