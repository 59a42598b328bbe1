"""Import a checkpoint of the official OneLLM code.

PATH is a file, or a folder of shards. A stage-I file (one expert) fits the config
of stage I only; load_from=dict(..., grow=True) makes the next stage of it.
"""

import argparse

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="file or folder of the official code")
    parser.add_argument("out", help="checkpoint to write (.pth)")
    parser.add_argument(
        "--config", required=True, help="our config that the weights must fit"
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.config import load_config
    from mmvlm.export.from_onellm import import_onellm

    try:
        cfg = load_config(args.config).model.to_dict()
        import_onellm(args.path, cfg).save(args.out)
    except user_errors() as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    run_tool(main)
