"""Export a checkpoint as a folder that plain transformers loads.

Adapters (LoRA) are merged. With --verify the folder is reloaded in plain
transformers and its weights and logits are compared; a difference gives exit
status 1.
"""

import argparse

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="work dir, config file, or name of a config")
    parser.add_argument(
        "checkpoint", nargs="?", help="of mmvlm; none: the work dir's newest"
    )
    parser.add_argument("out", help="folder to write")
    parser.add_argument("--verify", action="store_true", help="reload and compare")
    parser.add_argument("--image", help="image of the comparison; default: noise")
    parser.add_argument("--prompt", default="What is shown in this image?")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="of logits")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="of the weights; default: the language model's",
    )
    parser.add_argument(
        "--pad-to-multiple",
        type=int,
        default=64,
        help="round embedding rows up to it where the image token needs new ones",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder")
    parser.add_argument("--tiny", action="store_true", help="the config's tiny twin")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="K=V")
    # Two names or three, whatever stands between them.
    return parser.parse_intermixed_args(argv)


def main(argv=None):
    args = parse_args(argv)
    import torch
    from converting import to_hf

    try:
        report = to_hf(
            args.config,
            args.checkpoint,
            args.out,
            cfg_options=args.cfg_options,
            tiny=args.tiny,
            dtype=getattr(torch, args.dtype) if args.dtype else None,
            pad_to_multiple=args.pad_to_multiple,
            overwrite=args.overwrite,
            verify=args.verify,
            image=args.image,
            prompt=args.prompt,
            tolerance=args.tolerance,
        )
    except user_errors() as error:
        return f"error: {error}"
    if report is None:
        return 0
    print(report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    run_tool(main)
