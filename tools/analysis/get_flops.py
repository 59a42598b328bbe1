"""Count parameters and FLOP of every part of a config's model, without weights.

    python tools/analysis/get_flops.py CONFIG --prompt 64 --answer 64

Numbers are of one sample: an image of 640 x 480 pixels in the config's own
views, a prompt and an answer. A multiply-add counts 2, causal attention as the
full square, recomputation by activation checkpointing not at all.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, quiet_stdout, run_tool, user_errors

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

import mmvlm  # noqa: F401  isort: skip

from flops import (
    ANSWER_TOKENS,
    PROMPT_TOKENS,
    count_flops,
    render_flops,
)
from mmengine.config import DictAction

from mmvlm.config import load_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file, or the name of a shipped one")
    parser.add_argument("--prompt", type=int, default=PROMPT_TOKENS, metavar="TOKENS")
    parser.add_argument("--answer", type=int, default=ANSWER_TOKENS, metavar="TOKENS")
    parser.add_argument("--forward-only", action="store_true", help="no backward")
    parser.add_argument("--tiny", action="store_true", help="with tiny towers")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="k=v")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        with quiet_stdout():
            cfg = load_config(args.config, args.cfg_options, tiny=args.tiny)
            report = count_flops(
                cfg,
                prompt_tokens=args.prompt,
                answer_tokens=args.answer,
                backward=not args.forward_only,
            )
    except user_errors() as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(report.to_dict(), indent=2) if args.json else render_flops(report))
    return 0


if __name__ == "__main__":
    run_tool(main)
