"""Feed damaged files of every format to its reader; exit with 1 for a failure.

    python tools/analysis/fuzz_readers.py --num 100000 --seed 0
    python tools/analysis/fuzz_readers.py --num 2000 --formats refcoco llava

A case damages a record, a value in a file, a file's bytes or an image. Allowed
are a refusal at opening that names the file, a sample, or a sample that is counted
as bad. The same seed gives the same cases. Where damage takes a record away or
changes its split, fewer samples are seen than were written; such cases are counted.
"""

from mmvlm.utils.entry import catch_signals, run_tool

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

import mmvlm  # noqa: F401  isort: skip

import argparse
import logging
import resource
import sys
import time

from fuzzing.fuzz import fuzz, table
from mmengine.logging import MMLogger


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num", type=int, default=2000, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", help="names; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="processes; 0: in this one")
    parser.add_argument("--show", type=int, default=20, help="failures to print")
    parser.add_argument("--fewer", type=int, default=0, help="of these to print")
    parser.add_argument("--gib", type=float, default=8, help="of address space at most")
    args = parser.parse_args(argv)
    limit = int(args.gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    MMLogger.get_current_instance().setLevel(logging.CRITICAL)

    start = time.perf_counter()

    def report(done: int, failures: int) -> None:
        if done % 500:
            return
        seconds = time.perf_counter() - start
        left = seconds / done * (args.num - done)
        words = f"{done}/{args.num} cases, {failures} failures, {left:.0f} s left"
        print(f"\r{words}", end="", file=sys.stderr, flush=True)

    tallies = fuzz(args.num, args.seed, args.formats, jobs=args.jobs, progress=report)
    print(file=sys.stderr)
    print("\n".join(table(tallies)))
    failures = [line for tally in tallies.values() for line in tally.failures]
    for line in failures[: args.show]:
        print(line)
    fewer = [line for tally in tallies.values() for line in tally.fewer]
    for line in fewer[: args.fewer]:
        print(line)
    print(f"{args.num} cases in {time.perf_counter() - start:.0f} s.")
    return 1 if failures else 0


if __name__ == "__main__":
    run_tool(main)
