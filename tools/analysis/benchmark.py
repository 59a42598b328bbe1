"""Hold our speed and memory against the plain way, on this machine.

    python tools/analysis/benchmark.py step
    python tools/analysis/benchmark.py step --heads large --lengths ragged

Every sub-command is a module with ``add_arguments(parser)``, ``run(args)``
(yields one row per measurement) and ``table(rows)``. Rows are printed as JSON
lines, then as a table with the ratio beside the least that is expected. Only
ratios travel between machines; quote them with the command.
"""

from mmvlm.utils.entry import catch_signals, run_tool

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

import mmvlm  # noqa: F401  isort: skip

import argparse
import importlib
import json
from pathlib import Path

#: Sub-command -> module, one line of help.
COMMANDS = {
    "batching": ("benchmarks.batching", "cost of padding and of waiting"),
    "data": ("benchmarks.data", "opening a million records"),
    "deform": ("benchmarks.deform", "deformable attention's sampling"),
    "generate": ("benchmarks.generating", "replies, against one prompt at a time"),
    "image": ("benchmarks.image", "a JPEG file to pixels, against LLaVA's"),
    "memory": ("benchmarks.memory", "a training process over many steps"),
    "score": ("benchmarks.scoring", "ten-answer scores and their interval"),
    "regions": ("benchmarks.regions", "regions in questions, masks in answers"),
    "step": ("benchmarks.step", "training step against LLaVA's"),
    "tokenize": ("benchmarks.encoding", "a record to ids and labels"),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    modules = {}
    for name, (path, words) in COMMANDS.items():
        modules[name] = importlib.import_module(path)
        own = commands.add_parser(name, help=words)
        own.add_argument("--json", metavar="FILE", help="rows go there, too")
        modules[name].add_arguments(own)
    args = parser.parse_args(argv)

    module, rows = modules[args.command], []
    for row in module.run(args):
        rows.append(row)
        print(json.dumps(row), flush=True)
    if args.json:
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        Path(args.json).write_text(lines, encoding="utf-8")
    print()
    print("\n".join(module.table(rows)))


if __name__ == "__main__":
    run_tool(main)
