"""Download DenseFusion's images; run it again to go on where it stopped.

Images are decoded before they are kept. OUT gets the rows that have one, OUT +
.quarantine.jsonl the others with reasons, OUT + .results.jsonl the state of the run.
"""

import argparse
import sys

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json-file", "--json_file", required=True, help="DenseFusion-1M.jsonl")
    add("--output-path", "--output_path", required=True, help="folder of images")
    add("--json-out-file", "--json_out_file", required=True, metavar="OUT")
    add("--num-processes", "--num_processes", type=int, default=2, metavar="N")
    add("--timeout", type=float, default=60.0, help="seconds a server may be silent")
    add("--tries", type=int, default=4, help="requests for one image")
    add("--backoff", type=float, default=1.0, help="seconds before the second try")
    add(
        "--image-prefix",
        default="",
        help="in front of the field 'image' (default: nothing, so that it is relative "
        "to --output-path)",
    )
    add("--retry-refused", action="store_true", help="try 404 and the like again")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from densefusion_download import download
    from fetch import Fetcher

    def show(summary):
        print(f"\r{summary}", end="", file=sys.stderr, flush=True)

    try:
        summary = download(
            args.json_file,
            args.output_path,
            args.json_out_file,
            num_workers=args.num_processes,
            fetcher=Fetcher(args.tries, timeout=args.timeout, backoff=args.backoff),
            image_prefix=args.image_prefix,
            retry_refused=args.retry_refused,
            progress=show,
        )
    except KeyboardInterrupt:
        return "\nstopped; run the same command to go on."
    except user_errors() as error:
        return f"error: {error}"
    print(f"\n{args.json_out_file}: {summary.ok} rows with an image.")
    if summary.refused or summary.failed:
        print(f"The others: {args.json_out_file}.quarantine.jsonl")
    if summary.failed:
        print("Run the same command to try the failed ones again.")
    return 0


if __name__ == "__main__":
    run_tool(main)
