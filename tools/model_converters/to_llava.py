"""Give a checkpoint the names of official code: LLaVA, MMFuser or INF-LLaVA.

OUT is a folder that the official loaders open (config.json, shards with their index,
tokenizer), for a work dir or with --config; or one weight file (.bin) of all parts
that the checkpoint holds; or with --stage-1 a folder that gets mm_projector.bin, the
connector alone: the file that the official training scripts take with
--pretrain_mm_mlp_adapter.
"""

import argparse

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoint", help="of mmvlm, adapters merged: file or work directory"
    )
    parser.add_argument("out", help="folder, or weight file (.bin)")
    parser.add_argument("--config", help="of the checkpoint; default: its work dir's")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder")
    parser.add_argument("--stage-1", action="store_true", help="the connector alone")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="of the weights; default: as they are",
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    import torch
    from converting import to_llava

    from mmvlm.engine.runner.checkpoint import resolve_checkpoint
    from mmvlm.export.state import read_file
    from mmvlm.export.to_llava import export_llava, export_stage_1

    export = export_stage_1 if args.stage_1 else export_llava
    one_file = args.stage_1 or args.out.endswith((".bin", ".pth"))
    try:
        dtype = getattr(torch, args.dtype) if args.dtype else None
        if not one_file:
            source = (args.config, args.checkpoint)
            source = source if args.config else (args.checkpoint, None)
            to_llava(*source, args.out, dtype=dtype, overwrite=args.overwrite)
            return 0
        path = resolve_checkpoint(args.checkpoint)
        print(export(read_file(path), args.out, dtype=dtype, source=str(path)))
    except user_errors() as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    run_tool(main)
