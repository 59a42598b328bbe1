"""Merge the LoRA adapters of every part; connector and all else stay."""

import argparse

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="work dir, or config with the run's lora")
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="of mmvlm, whole or trainable-only; none: the work dir's newest",
    )
    parser.add_argument("out", help="checkpoint to write (.pth): the whole model")
    parser.add_argument("--tiny", action="store_true", help="the config's tiny twin")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="K=V")
    # Two names or three, whatever stands between them.
    return parser.parse_intermixed_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from converting import merge_checkpoint

    try:
        merge_checkpoint(
            args.config,
            args.checkpoint,
            args.out,
            cfg_options=args.cfg_options,
            tiny=args.tiny,
        )
    except user_errors() as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    run_tool(main)
