"""Give a checkpoint the names of the official LLaVA code (INF-LLaVA's included).

OUT is one weight file (.bin) of all parts that the checkpoint holds, or with
--stage-1 a folder that gets mm_projector.bin, the connector alone.
"""

import argparse
import sys


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="of mmvlm, adapters merged")
    parser.add_argument("out", help="file, or folder with --stage-1")
    parser.add_argument("--stage-1", action="store_true", help="the connector alone")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.export.state import read_file
    from mmvlm.export.to_llava import save_llava, save_stage_1

    save = save_stage_1 if args.stage_1 else save_llava
    try:
        path = save(read_file(args.checkpoint), args.out)
    except (ValueError, OSError) as error:
        return f"error: {error}"
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
