"""Say what a config would train, without weights: parts, tokens, memory."""

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

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run, render


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file, or the name of a shipped one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--gpus", type=int, help="processes, for batch and memory")
    parser.add_argument("--tiny", action="store_true", help="with tiny towers and data")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="k=v")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        with quiet_stdout():
            cfg = load_config(args.config, args.cfg_options, tiny=args.tiny)
            result = dry_run(cfg, gpus=args.gpus)
    except user_errors() as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result.to_dict(), indent=2) if args.json else render(result))
    return 0


if __name__ == "__main__":
    run_tool(main)
