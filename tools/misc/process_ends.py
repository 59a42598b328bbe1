"""How runs end, tried many times: exit codes under load, signals at random moments.

    python tools/misc/process_ends.py exits --num 300 --busy 2
    python tools/misc/process_ends.py signals --num 20 --processes 2

``exits`` trains a tiny model for a few steps in several processes, again and again,
beside processes that keep the cores busy, and counts exit codes. ``--warm`` forks the
ranks from a process that has imported everything, which spares most of the time; how a
rank ends is the same. ``signals`` stops runs at random moments, resumes them, and
compares the last weights with those of a run that nobody stopped.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmvlm.utils.entry import run_tool

TRAIN = ROOT / "tools" / "train.py"
CONFIG = (
    ROOT
    / "configs"
    / "llava"
    / ("llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py")
)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def arguments(folder: str | os.PathLike, steps: int, processes: int) -> list[str]:
    """Return the options of tools/train.py for a tiny run."""
    config = Path(f"{folder}.py")
    if not config.exists():
        write_config(config, steps)
    return [
        *(str(config), "--work-dir", str(folder), "--resume"),
        *("--launcher", "pytorch" if processes > 1 else "none"),
    ]


def write_config(path: Path, steps: int) -> None:
    """Write the tiny twin of a config, of so many steps."""
    from mmvlm.config import load_config

    cfg = load_config(str(CONFIG), tiny=True)
    cfg.train_cfg = dict(type="VLMTrainLoop", max_iters=steps)
    cfg.default_hooks = dict(
        logger=dict(type="ProgressHook", interval=1),
        checkpoint=dict(type="VLMCheckpointHook"),
    )
    cfg.dump(str(path))


def command(folder: str | os.PathLike, steps: int, processes: int) -> list[str]:
    """Return the command of a tiny run."""
    launch = ["-m", "mmvlm.utils.launch", "--standalone"]
    launch += [f"--nproc_per_node={processes}"]
    prefix = launch if processes > 1 else []
    options = arguments(folder, steps, processes)
    return [sys.executable, *prefix, str(TRAIN), *options]


def environment() -> dict[str, str]:
    """Return the environment of a tiny run."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1")


def _spin() -> None:
    while True:
        pass


@contextmanager
def scratch() -> Iterator[str]:
    """Make a folder for a ``with``; forks that end run exit functions, this is none."""
    folder = tempfile.mkdtemp()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many cores busy inside a ``with``."""
    context = multiprocessing.get_context("spawn")
    spinners = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for spinner in spinners:
        spinner.start()
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.join()


# Exit codes --------------------------------------------------------------------


def _be_rank(rank: int, processes: int, port: int, folder: str, steps: int) -> None:
    """Train as one rank, in a fork: the whole life of tools/train.py."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = [str(TRAIN), *arguments(folder, steps, processes)]
    runpy.run_path(str(TRAIN), run_name="__main__")


def forked_run(folder: str, steps: int, processes: int) -> list[int]:
    """Train in forks of this process; returns the exit codes of the ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments(folder, steps, processes)  # the config, before ranks write it at once
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _be_rank(rank, processes, port, folder, steps)
            except SystemExit as end:
                code = end.code
            finally:
                # Reached without a group only; with one the tool has ended us.
                os._exit(code)
        children.append(child)
    return _codes(children)


def _codes(children: list[int]) -> list[int]:
    """Wait for ranks; those that one leaves alone would wait for it for ever."""
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        child, status = os.wait()
        if child in children:
            codes[child] = os.waitstatus_to_exitcode(status)
            if codes[child]:
                for other in set(children) - set(codes):
                    os.kill(other, signal.SIGTERM)
    return [codes[child] for child in children]


def count_exits(args: argparse.Namespace) -> int:
    """Train again and again; returns 1 when a run did not exit with 0."""
    codes: Counter = Counter()
    if args.warm:
        for name in ("mmvlm.engine.runner", "mmvlm.config", "mmvlm.models"):
            importlib.import_module(name)
    with scratch() as folder, busy(args.busy):
        for number in range(args.num):
            work = f"{folder}/{number}"
            if args.warm:
                found = tuple(forked_run(work, args.steps, args.processes))
            else:
                done = subprocess.run(
                    command(work, args.steps, args.processes),
                    env=environment(),
                    capture_output=True,
                    text=True,
                )
                found = done.returncode
            codes[found] += 1
            if found not in (0, (0,) * args.processes):
                text = Path(f"{work}.log").read_text() if args.warm else done.stderr
                print(text[-2000:], file=sys.stderr)
            print(f"\r{sum(codes.values())}: {dict(codes)}", end="", flush=True)
    print()
    return int(set(codes) not in ({0}, {(0,) * args.processes}))


# Signals -----------------------------------------------------------------------


def last_weights(folder: Path, steps: int) -> dict:
    """Return the weights after the last step."""
    import torch

    return torch.load(folder / f"iter_{steps}.pth", weights_only=True)["state_dict"]


def members(group: int) -> list[int]:
    """Return the living processes that descend from a process."""
    found, seen = [group], []
    while found:
        process = found.pop()
        path = Path(f"/proc/{process}/task/{process}/children")
        if path.exists():
            seen.append(process)
            found += map(int, path.read_text().split())
    return seen


def stop_once(
    folder: Path, steps: int, processes: int, number: int, moment: float
) -> tuple[int, list[int]] | None:
    """Signal a run after some seconds; returns its exit code and who outlived it.

    None is returned for a run that succeeds before.
    """
    with open(f"{folder}.log", "a") as log:
        run = subprocess.Popen(
            command(folder, steps, processes),
            env=environment(),
            stdout=log,
            stderr=log,
        )
        with suppress(subprocess.TimeoutExpired):
            if run.wait(moment) == 0:
                return None
        all_of_it = members(run.pid)
        run.send_signal(number)
        code = run.wait()
        # As a shell tells it, where a signal came before Python could catch it.
        code = 128 - code if code < 0 else code
    time.sleep(2)
    left = [p for p in all_of_it if Path(f"/proc/{p}/exe").exists()]
    return code, left


def count_stops(args: argparse.Namespace) -> int:
    """Stop runs at random moments; returns 1 when one did not end as it should."""
    rng, faults = random.Random(args.seed), 0
    with scratch() as name:
        start = time.monotonic()
        whole, cut = Path(name, "whole"), Path(name, "cut")
        subprocess.run(
            command(whole, args.steps, args.processes),
            env=environment(),
            check=True,
            capture_output=True,
        )
        seconds = time.monotonic() - start
        trial = 0
        while trial < args.num:
            number, moment = rng.choice(SIGNALS), rng.uniform(0.3, seconds)
            resumed = any(cut.glob("iter_*.pth"))
            stopped = stop_once(cut, args.steps, args.processes, number, moment)
            if stopped is None:  # over before the signal came: no trial
                seconds = seconds if resumed else moment
                faults += not _is_equal(whole, cut, args.steps)
                cut = Path(name, f"after{trial}-{moment}")
                continue
            trial += 1
            code, left = stopped
            at = [int(p.stem.removeprefix("iter_")) for p in cut.glob("iter_*.pth")]
            over = max(at, default=0) == args.steps
            well = (code == 128 + number or (over and code == 0)) and not left
            faults += not well
            print(
                f"{trial}: {signal.Signals(number).name}, exit code {code}, "
                f"step {max(at, default=0)}{'' if well else ', FAULT'}",
                flush=True,
            )
            if not well:
                print(Path(f"{cut}.log").read_text()[-3000:], file=sys.stderr)
            if over:
                faults += not _is_equal(whole, cut, args.steps)
                cut = Path(name, f"cut{trial}")
        subprocess.run(
            command(cut, args.steps, args.processes), env=environment(), check=True,
            capture_output=True,
        )  # fmt: skip
        faults += not _is_equal(whole, cut, args.steps)
    print(f"{faults} faults.")
    return int(faults > 0)


def _is_equal(whole: Path, cut: Path, steps: int) -> bool:
    import torch

    first, second = last_weights(whole, steps), last_weights(cut, steps)
    same = first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )
    print("last weights: " + ("equal to the last bit" if same else "DIFFERENT"))
    return same


def main(argv: list[str] | None = None) -> int:
    """Run what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    exits = commands.add_parser("exits", help="count exit codes")
    exits.add_argument("--num", type=int, default=300, help="runs")
    exits.add_argument("--busy", type=int, default=os.cpu_count(), help="spinners")
    exits.add_argument("--warm", action="store_true", help="fork, import once")
    exits.set_defaults(run=count_exits, steps=3)
    stops = commands.add_parser("signals", help="stop at random moments")
    stops.add_argument("--num", type=int, default=20, help="signals")
    stops.add_argument("--seed", type=int, default=0, help="of the moments")
    stops.set_defaults(run=count_stops, steps=40)
    for one in (exits, stops):
        one.add_argument("--steps", type=int, help="of a run")
        one.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    return args.run(args)


if __name__ == "__main__":
    run_tool(main)
