"""Show samples: images with regions, views, tokens, the raw record.

python tools/misc/browse_dataset.py CONFIG --num 8 --html samples.html
python tools/misc/browse_dataset.py --dataset "dict(type='LLaVADataset', ...)"
python tools/misc/browse_dataset.py CONFIG --quarantine DIR/quarantine.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, run_tool, user_errors

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

from data_loading import add_data_arguments, open_from_arguments
from rich.console import Console
from sample_browser import choose_samples, collect_card
from sample_page import write_sample_page
from sample_terminal import render_card


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser)
    parser.add_argument("--num", type=int, default=12, help="samples per data set")
    parser.add_argument("--ids", nargs="+", help="these ids or record numbers")
    parser.add_argument("--seed", type=int, help="draw at random, not evenly")
    parser.add_argument("--quarantine", help="show the samples of such a file")
    parser.add_argument("--html", metavar="FILE", help="write a page")
    parser.add_argument(
        "--terminal", action="store_true", help="print (the default without --html)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        opened = open_from_arguments(args)
        chosen = choose_samples(
            opened.datasets,
            num=args.num,
            ids=args.ids,
            seed=args.seed,
            quarantine=args.quarantine,
        )
    except user_errors() as error:
        print(f"cannot open: {error}", file=sys.stderr)
        return 2
    cards = [collect_card(data, at, opened.processor) for data, at in chosen]
    if args.terminal or not args.html:
        console = Console()
        for card in cards:
            console.print(render_card(card))
        for note in opened.notes:
            console.print(f"note: {note}", markup=False)
    if args.html:
        title = f"Samples of {args.config or 'a data set'} ({args.split})"
        path = write_sample_page(cards, args.html, title=title, notes=opened.notes)
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    run_tool(main)
