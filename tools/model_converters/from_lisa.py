"""Import a checkpoint of the official LISA code, its LoRA merged."""

import argparse

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", help="file or folder of the official code")
    parser.add_argument("out", help="checkpoint to write (.pth)")
    parser.add_argument(
        "--config", required=True, help="our config that the weights must fit"
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.config import load_config
    from mmvlm.export.from_lisa import import_lisa

    try:
        cfg = load_config(args.config).model.to_dict()
        import_lisa(args.path, cfg).save(args.out)
    except user_errors() as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    run_tool(main)
