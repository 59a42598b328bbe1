"""Benchmark of opening datasets: our index against the file held in memory.

Three files are generated: LLaVA's JSON, the same pretty-printed, and DenseFusion's
JSON lines. Every figure comes from a process of its own, which first opened a tiny
set, so that imports cost nothing. Times are CPU time, with the wall clock beside it
where a file is opened: that one also counts the disk and the machine's other work.
Private memory is what no other process shares
(``Private_Clean`` and ``Private_Dirty`` of ``/proc/self/smaps_rollup``); the plain way
is ``json.load``, or ``json.loads`` line by line, into a list.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import child_environment

#: Name -> file, reader.
FILES = {
    "llava": ("llava.json", "LLaVADataset"),
    "llava-pretty": ("llava-pretty.json", "LLaVADataset"),
    "densefusion": ("densefusion.jsonl", "DenseFusionDataset"),
}
#: Figure -> unit, most that ours may need.
MUSTS = {
    "build": ("s", 60.0),
    "build_peak": ("MB", 200.0),
    "open": ("s", 0.1),
    "private": ("MB", 20.0),
    "worker_growth": ("MB", 10.0),
    "access": ("us", 50.0),
}
_WORDS = (
    "the a an of in on with and is are that two several small large red wooden "
    "person street building window table standing near behind while holding "
    "background foreground visible appears suggests setting colorful image"
).split()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py data``."""
    parser.add_argument("--files", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--records", type=int, default=665_298, help="of LLaVA's")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of DenseFusion's")
    parser.add_argument("--workers", type=int, default=2, help="that walk our set")
    parser.add_argument("--accesses", type=int, default=20_000, help="timed")
    parser.add_argument("--folder", help="for the files; default: a temporary one")
    parser.add_argument("--no-plain", action="store_true", help="ours only")


def write_file(kind: str, path: str, count: int) -> None:
    """Write a generated file, record by record.

    LLaVA's records have 1 to 9 questions and 1.55 KB on average, every tenth no
    image, every hundredth text that is not ASCII; DenseFusion's captions have about
    190 words.
    """
    rng = random.Random(0)
    pool = [" ".join(rng.choices(_WORDS, k=rng.randint(7, 16))) for _ in range(5000)]
    pool += [f"{text} na\u00efve caf\u00e9" for text in pool[:50]]
    with open(path, "w", encoding="utf-8", buffering=1 << 20) as file:
        if kind == "densefusion":
            for number in range(count):
                file.write(json.dumps(_row(number, pool, rng)) + "\n")
            return
        indent = 4 if kind == "llava-pretty" else None
        for number in range(count):
            record = _record(number, pool, rng)
            text = json.dumps(record, ensure_ascii=number % 2 == 0, indent=indent)
            file.write(("[" if number == 0 else ", ") + text)
        file.write("]")


def _record(number: int, pool: list[str], rng: random.Random) -> dict:
    turns = []
    for question in range(rng.randint(1, 9)):
        tag = "<image>\n" if question == 0 and number % 10 else ""
        question_text = rng.choice(pool)
        answer_text = f"{rng.choice(pool)}. {rng.choice(pool)}."
        turns.append({"from": "human", "value": f"{tag}{question_text}?"})
        turns.append(
            {"from": "gpt", "value": f'"{answer_text}"\n' if question else answer_text}
        )
    name = f"{number:012d}"
    image = {"image": f"coco/train2017/{name}.jpg"} if number % 10 else {}
    return {"id": name, **image, "conversations": turns}


def _row(number: int, pool: list[str], rng: random.Random) -> dict:
    name = f"{number:08d}"
    return dict(
        image_id=name,
        image_path=f"{number // 1000:05d}/{name}.jpg",
        caption=". ".join(rng.choices(pool, k=19)),
        url=f"https://images.invalid/{name}.jpg",
    )


def memory(*keys: str) -> float:
    """Return the sum of some lines of this process's ``smaps_rollup``, in MB."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        lines = [line.split() for line in file]
    found = {line[0].rstrip(":"): int(line[1]) for line in lines[1:]}
    return sum(found[key] for key in keys) * 1024 / 1e6


def private() -> float:
    """Return the memory that this process shares with none, in MB."""
    return memory("Private_Clean", "Private_Dirty")


def _peak() -> float:
    """Return the high-water mark of resident memory since it was reset, in MB."""
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


# What runs in processes of their own ------------------------------------------


def open_ours(kind: str, path: str) -> Any:
    """Open the reader's dataset."""
    from mmvlm.registry import DATASETS

    return DATASETS.build(dict(type=FILES[kind][1], ann_file=path))


def open_plain(kind: str, path: str) -> list:
    """Read the whole file into a list."""
    with open(path, encoding="utf-8") as file:
        if kind == "densefusion":
            return [json.loads(line) for line in file]
        return json.load(file)


def _get(records: Any) -> Any:
    return records.__getitem__ if isinstance(records, list) else records._record


def _walk(records: Any, start: Any, result: Any) -> None:
    """Read all records in a worker; tell how its private memory grew."""
    get, count = _get(records), len(records)
    start.wait()
    before, total = private(), 0
    for row in range(count):
        total += len(get(row)) if isinstance(records, list) else 1 + (not get(row))
    start.wait()  # pages that workers share count for none: all must be there
    result.put((private() - before, total))
    start.wait()


def _worker_growth(records: Any, workers: int) -> float:
    context = multiprocessing.get_context("fork")
    start, result = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=_walk, args=(records, start, result))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    found = [result.get() for _ in processes]
    for process in processes:
        process.join()
    return max(growth for growth, _ in found)


def measure(kind: str, path: str, way: str, options: dict) -> dict[str, float]:
    """Open a file in this process and return seconds, MB and microseconds."""
    opener = open_plain if way == "plain" else open_ours
    tiny = os.path.join(os.path.dirname(path), f"tiny-{os.path.basename(path)}")
    _get(opener(kind, tiny))(0)
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # resets the high-water mark
    before, resident = private(), memory("Rss")
    wall, cpu = time.perf_counter(), time.process_time()
    records = opener(kind, path)
    found = dict(
        wall=time.perf_counter() - wall,
        cpu=time.process_time() - cpu,
        peak=_peak() - resident,
        private=private() - before,
        count=len(records),
    )
    if way == "build":
        return found
    get, rng = _get(records), random.Random(1)
    rows = [rng.randrange(len(records)) for _ in range(options["accesses"])]
    cpu = time.process_time()
    for row in rows:
        get(row)
    found["access"] = (time.process_time() - cpu) / len(rows) * 1e6
    # One worker shows what the list costs; more of them would fill the machine.
    workers = 1 if way == "plain" else options["workers"]
    found["worker_growth"] = _worker_growth(records, workers)
    return found


def _child(kind: str, path: str, way: str, args: argparse.Namespace) -> dict:
    options = dict(accesses=args.accesses, workers=args.workers)
    command = [sys.executable, "-m", __name__, json.dumps([kind, path, way, options])]
    environment = child_environment(MMVLM_CACHE=_cache_of(path))
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{kind}, {way}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _cache_of(path: str) -> str:
    return os.path.join(os.path.dirname(path), "cache")


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure every file asked for; yield one row per figure."""
    folder = args.folder or tempfile.mkdtemp(prefix="mmvlm-bench-data-")
    os.makedirs(folder, exist_ok=True)
    try:
        for kind in args.files:
            yield from _measure_file(kind, folder, args)
    finally:
        if args.folder is None:
            shutil.rmtree(folder)


def _measure_file(
    kind: str, folder: str, args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    path = os.path.join(folder, FILES[kind][0])
    write_file(kind, path, args.rows if kind == "densefusion" else args.records)
    write_file(kind, os.path.join(folder, f"tiny-{FILES[kind][0]}"), 3)
    shutil.rmtree(_cache_of(path), ignore_errors=True)
    build = _child(kind, path, "build", args)
    index = [p.stat().st_size for p in Path(_cache_of(path)).rglob("*") if p.is_file()]
    again = _child(kind, path, "ours", args)
    plain = {} if args.no_plain else _child(kind, path, "plain", args)
    ours = dict(again, build=build["cpu"], build_peak=build["peak"])
    # The plain way pays at every opening what we pay once.
    sources = dict(build="cpu", build_peak="peak", open="cpu")
    for figure, (unit, must) in MUSTS.items():
        source = sources.get(figure, figure)
        mine, theirs = ours.get(figure, again.get(source)), plain.get(source)
        wall = (build if figure == "build" else again)["wall"]
        yield dict(
            benchmark="data",
            file=kind,
            records=build["count"],
            megabytes=round(os.path.getsize(path) / 1e6),
            index_megabytes=round(sum(index) / 1e6, 2),
            figure=figure,
            unit=unit,
            ours=round(mine, 3),
            must=must,
            plain=None if theirs is None else round(theirs, 3),
            ratio=None if theirs is None else float(f"{theirs / mine:.3g}"),
            wall=round(wall, 3) if source == "cpu" else None,
            plain_wall=round(plain["wall"], 3) if source == "cpu" and plain else None,
        )
    os.unlink(path)


_LABELS = {
    "build": "first opening (index)",
    "build_peak": "  peak memory",
    "open": "opening again",
    "private": "  private memory",
    "worker_growth": "growth of a worker",
    "access": "one record, parsed",
}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, the most that is allowed beside ours."""
    lines = []
    for kind, group in itertools.groupby(rows, key=lambda row: row["file"]):
        found = list(group)
        first = found[0]
        lines += [
            f"{kind}: {first['records']} records, {first['megabytes']} MB, index "
            f"{first['index_megabytes']} MB",
            f"{'':23} {'ours':>9}  {'must':7} {'plain':>9} {'plain/ours':>10}"
            "      wall clock, s",
        ]
        for row in found:
            plain, ratio, wall = (
                "-" if value is None else f"{value:.4g}"
                for value in (row["plain"], row["ratio"], row["wall"])
            )
            if row["plain_wall"] is not None:
                wall += f" (plain: {row['plain_wall']:.4g})"
            lines.append(
                f"{_LABELS[row['figure']]:23} {row['ours']:9.4g}  "
                f"<={row['must']:<5g} {plain:>9} {ratio:>10} {row['unit']:2} {wall:>10}"
            )
        lines.append("")
    return lines[:-1]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.stdout.write("\n" + json.dumps(measure(*json.loads(sys.argv[1]))) + "\n")
