"""The command line of importers: official weights that must fit a config of ours."""

import argparse

from mmvlm.utils.entry import user_errors


def make_parser(doc):
    """Return a parser of PATH, OUT and --config."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="file or folder of the official code")
    parser.add_argument("out", help="checkpoint to write (.pth)")
    parser.add_argument(
        "--config", required=True, help="our config that the weights must fit"
    )
    return parser


def import_weights(args, load):
    """Write what ``load`` makes of a model config; returns the tool's result."""
    from mmvlm.config import load_config

    try:
        load(load_config(args.config).model.to_dict()).save(args.out)
    except user_errors() as error:
        return f"error: {error}"
    return 0
