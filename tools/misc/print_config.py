"""Print a merged config, or how two configs differ."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, quiet_stdout, run_tool, user_errors

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

from mmengine.config import DictAction

from mmvlm.config import ConfigTrace, load_config
from mmvlm.config.diff import diff_configs


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file, or the name of a shipped one")
    parser.add_argument("--diff", metavar="CONFIG", help="print what CONFIG changes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--origins", action="store_true", help="print file:line per key"
    )
    parser.add_argument("--tiny", action="store_true", help="with tiny towers and data")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="k=v")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        with quiet_stdout():
            cfg = load_config(args.config, args.cfg_options, tiny=args.tiny)
        if args.diff:
            other = load_config(args.diff, args.cfg_options, tiny=args.tiny)
            for difference in diff_configs(cfg, other):
                print(difference)
            return 0
    except user_errors() as error:
        print(error, file=sys.stderr)
        return 1
    if args.origins:
        trace = ConfigTrace.read(cfg.filename)
        for difference in diff_configs({}, cfg):
            print(
                f"{difference.path} = {difference.right!r}  # "
                f"{trace.where(difference.path)}"
            )
    elif args.json:
        print(json.dumps(cfg.to_dict(), indent=2, default=str))
    else:
        print(cfg.pretty_text)
    return 0


if __name__ == "__main__":
    run_tool(main)
