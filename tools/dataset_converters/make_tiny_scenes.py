"""Write TinyScenes: images, annotations and a tokenizer, all from a seed."""

import argparse
import time

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--num", type=int, default=48000, help="training scenes")
    parser.add_argument("--num-test", type=int, default=1350, help="test questions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--format",
        nargs="+",
        default=["llava", "densefusion"],
        metavar="NAME",
        help="formats of the annotations (default: llava densefusion)",
    )
    parser.add_argument(
        "--style",
        default="plain",
        help="plain: large print; fine: half of it small; tangled: two things in "
        "every box; single: one shape per image (default: plain)",
    )
    parser.add_argument(
        "--prompted-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of LLaVA's short conversations that ask as benchmarks do, for a "
        "word or the letter of an option, 0-1 (default: 0.1); the tokenizer learns "
        "their words",
    )
    parser.add_argument(
        "--benchmarks",
        type=int,
        metavar="NUM",
        help="instead write NUM scenes in the layout of every benchmark",
    )
    parser.add_argument("--image-format", choices=["png", "jpg"], default="png")
    return parser.parse_args(argv)


def main(argv=None):
    import mmvlm  # noqa: F401

    args = parse_args(argv)
    from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
    from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
    from mmvlm.utils.files import writing_into

    start = time.perf_counter()
    try:
        with writing_into(args.out):
            if args.benchmarks is not None:
                sets = write_benchmarks(args.out, num=args.benchmarks, seed=args.seed)
                print(f"{args.benchmarks} scenes in {args.out}: {', '.join(sets)}.")
                return 0
            summary = make_tiny_scenes(
                args.out,
                num_train=args.num,
                num_test=args.num_test,
                seed=args.seed,
                formats=tuple(args.format),
                image_format=args.image_format,
                style=args.style,
                prompted_share=args.prompted_share,
            )
    except user_errors() as error:
        return f"error: {error}"
    print(
        f"{summary['num_train']} training scenes and {summary['num_test']} test "
        f"questions with a tokenizer in {args.out} ({time.perf_counter() - start:.0f} "
        "s):"
    )
    for name, files in summary["files"].items():
        shown = files if len(files) < 5 else [*files[:2], f"{len(files) - 2} more"]
        print(f"  {name}: {', '.join(shown)}")
    return 0


if __name__ == "__main__":
    run_tool(main)
