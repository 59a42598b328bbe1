"""Kill runs of a benchmark at random moments; show that no answer is lost.

A run that nothing disturbs is compared with one that is killed again and again and
restarted with one, two or three processes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, run_tool

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

from mmvlm.evaluation.store import AnswerReader, benchmark_folders

TEST = Path(__file__).resolve().parents[1] / "test.py"
#: Starts per kill, at most.
_TRIES = 10
#: Files that must be alike, below the folder of a benchmark.
_FILES = ("answers.jsonl", "scored.jsonl", "results.json")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Further options go to tools/test.py."
    )
    parser.add_argument("config", help="as for tools/test.py")
    parser.add_argument("checkpoint", help="as for tools/test.py")
    parser.add_argument("--benchmarks", required=True, help="as for tools/test.py")
    parser.add_argument("--out", required=True, help="folder for both runs")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2, help="of the killed runs")
    parser.add_argument("--seed", type=int, default=0)
    args, args.rest = parser.parse_known_args(argv)
    return args


def start(args: argparse.Namespace, out: Path, world_size: int) -> list:
    """Start the ranks of a run, without a launcher."""
    words = [sys.executable, str(TEST), args.config, args.checkpoint, "--out", str(out)]
    words += ["--benchmarks", args.benchmarks, *args.rest]
    env = {**os.environ, "WORLD_SIZE": str(world_size)}
    return [
        subprocess.Popen(
            words,
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]


def finish(ranks: list) -> float:
    """Wait for a run that must succeed; returns its seconds."""
    begin = time.monotonic()
    for rank, process in enumerate(ranks):
        errors = process.communicate()[1]
        if process.returncode:
            sys.exit(f"rank {rank} ended with {process.returncode}:\n{errors[-2000:]}")
    return time.monotonic() - begin


def num_answers(out: Path) -> int:
    return sum(
        len(list(AnswerReader(f).new())) for f in benchmark_folders(out).values()
    )


def content(path: Path) -> str:
    """Return what must be alike: all but what says how a run came by it."""
    text = path.read_text(encoding="utf-8")
    if path.name != "results.json":
        return text
    return str({k: v for k, v in json.loads(text).items() if k != "counts"})


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    draw = random.Random(args.seed)
    whole, runs = Path(args.out, "whole"), [Path(args.out, "killed1")]
    seconds = finish(start(args, whole, 1))
    print(f"undisturbed: {num_answers(whole)} answers in {seconds:.0f} s", flush=True)
    total = num_answers(whole)
    number = tries = 0
    while number < args.kills:
        if tries == _TRIES * args.kills:
            sys.exit(
                f"{number} of {args.kills} kills in {tries} starts: runs end before "
                "they can be killed. Choose a larger set, or fewer --kills."
            )
        tries += 1
        if num_answers(runs[-1]) == total:  # batches came faster than kills
            runs.append(Path(args.out, f"killed{len(runs) + 1}"))
        killed = runs[-1]
        world_size = draw.choice([1, 2, 3]) if number % 2 else args.processes
        ranks = start(args, killed, world_size)
        before, begin = num_answers(killed), time.monotonic()
        # Every kill finds something to do.
        wanted = before + draw.uniform(0, 2 * (total - before) / (args.kills - number))
        while num_answers(killed) < min(wanted, total):
            if all(process.poll() is not None for process in ranks):
                break
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 1))
        number += any(process.poll() is None for process in ranks)
        for process in ranks:
            process.kill()
            process.communicate()
        print(
            f"kill {number}: {world_size} processes after "
            f"{time.monotonic() - begin:.1f} s, {num_answers(killed)} of {total} "
            "answers are there",
            flush=True,
        )
    differ = []
    for killed in runs:
        finish(start(args, killed, draw.choice([1, 2, 3])))
        for name, folder in benchmark_folders(whole).items():
            for file in _FILES:
                other = killed / name / file
                if content(folder / file) != content(other):
                    differ.append(str(other))
    if differ:
        return print("differ:", *differ, sep="\n  ") or 1
    print(f"equal after {args.kills} kills: {', '.join(_FILES)} of every benchmark")
    return 0


if __name__ == "__main__":
    run_tool(main)
