"""Import a Q-Former of BLIP-2, InstructBLIP or MiniGPT-4 as our connector.

PATHS are files of LAVIS or MiniGPT-4, or folders of transformers; several
complete each other, later ones win.
"""

import argparse

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", help="files or folders with the weights")
    parser.add_argument("--out", required=True, help="checkpoint to write (.pth)")
    parser.add_argument(
        "--config", required=True, help="our config that the weights must fit"
    )
    parser.add_argument(
        "--no-projection",
        action="store_true",
        help="leave the projection to training (MiniGPT-4's stage 1)",
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.config import load_config
    from mmvlm.export.from_qformer import import_qformer

    try:
        cfg = load_config(args.config).model.to_dict()
        imported = import_qformer(args.paths, cfg, projection=not args.no_projection)
        imported.save(args.out)
    except user_errors() as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    run_tool(main)
