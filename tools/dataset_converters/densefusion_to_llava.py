"""Convert DenseFusion's JSON lines into the JSON list of LLaVA."""

import argparse
import sys

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json_file", metavar="IN", help="DenseFusion-1M.jsonl")
    parser.add_argument("out_file", metavar="OUT", help="JSON list to write")
    parser.add_argument(
        "--image-field",
        choices=["auto", "image", "image_path"],
        default="auto",
        help="field with the image's path (default: image if there, else image_path)",
    )
    parser.add_argument(
        "--prompt", default="", help="question behind the image (default: none)"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave damaged rows out, with a line"
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.datasets.readers.densefusion import convert_to_llava

    try:
        written, left_out = convert_to_llava(
            args.json_file,
            args.out_file,
            image_field=args.image_field,
            prompt=args.prompt,
            skip_bad=args.skip_bad,
            report=lambda line: print(f"left out: {line}", file=sys.stderr),
        )
    except user_errors() as error:
        return f"error: {error}"
    print(f"{args.out_file}: {written} records, {left_out} rows left out.")
    return 0


if __name__ == "__main__":
    run_tool(main)
