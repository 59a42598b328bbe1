"""Import official weights of Ferret, GPT4RoI, Osprey or Shikra.

PATH is a file or folder of the official code. Released weights are mostly deltas:
--base names the language model that is added to them.
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
    parser.add_argument(
        "--base", help="folder of the language model that a delta was made from"
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.config import load_config
    from mmvlm.export.from_grounding import import_grounding

    try:
        cfg = load_config(args.config)
        imported = import_grounding(args.path, cfg.model.to_dict(), base=args.base)
        imported.save(args.out)
    except user_errors() as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    run_tool(main)
