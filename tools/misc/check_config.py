"""Run the config doctor; exit with 1 if a config has problems.

For a single config, what it would train is printed too (see dry_run.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, run_tool, user_errors

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

from mmengine.config import DictAction

from mmvlm.config import ConfigTrace, check_config, load_config
from mmvlm.config.dry_run import dry_run, render


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="+", help="config files or shipped names")
    parser.add_argument("--files", action="store_true", help="look for data files too")
    parser.add_argument("--quick", action="store_true", help="the doctor only")
    parser.add_argument("--gpus", type=int, help="processes, for the batch check")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="k=v")
    return parser.parse_args(argv)


def check(path: str, args: argparse.Namespace) -> bool:
    """Print what the doctor says of one config; return whether it is well."""
    try:
        cfg = load_config(path, args.cfg_options, check=False)
        trace = ConfigTrace.read(cfg.filename)
        for key, value in (args.cfg_options or {}).items():
            trace.set(key.removeprefix("+"), value)
        doctor = check_config(cfg, trace, check_files=args.files, world_size=args.gpus)
        doctor.raise_on_problems()
    except user_errors() as error:
        print(error, file=sys.stderr)
        return False
    print(f"{trace.path}: fine")
    if len(args.configs) == 1 and not args.quick:
        print("  chain: " + "\n         ".join(reversed(trace.files)))
        print(render(dry_run(cfg, gpus=args.gpus)))
    for warning in doctor.warnings:
        print(f"  warning: {warning}")
    return True


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return 0 if all([check(path, args) for path in args.configs]) else 1


if __name__ == "__main__":
    run_tool(main)
