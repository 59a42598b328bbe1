"""List what can stand behind ``type=`` in a config: name, file, one line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, quiet_stdout, run_tool

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

from mmvlm.config.components import component_kinds, list_components


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", help="connector, transform, metric, hook, ...")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="mmengine's own names too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with quiet_stdout():
        kinds = component_kinds()
    if args.kind and args.kind not in kinds:
        print(f"no kind '{args.kind}'. Kinds: {', '.join(kinds)}", file=sys.stderr)
        return 1
    chosen = [args.kind] if args.kind else kinds
    with quiet_stdout():
        table = {kind: list_components(kind, inherited=args.all) for kind in chosen}
    if args.json:
        rows = {kind: [vars(row) for row in table[kind]] for kind in table}
        print(json.dumps(rows, indent=2))
        return 0
    for kind, rows in table.items():
        print(f"{kind}:")
        for row in rows:
            print(f"  {row.name:32} {row.file}\n  {'':32} {row.doc}")
    return 0


if __name__ == "__main__":
    run_tool(main)
