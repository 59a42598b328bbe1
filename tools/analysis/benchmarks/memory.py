"""Memory of a training process over many steps: it must level off.

A config of ``configs/tiny`` trains from random weights on generated TinyScenes, in this
process, and resident memory is read as it goes. What grows: the optimizer's state in
the first step, the machine code that oneDNN keeps for each shape of a matrix product
in bfloat16 (see ``mmvlm/models/utils/even_shapes.py``), the pages of the annotation
file that were read. Nothing may grow with the number of steps.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook

#: Most that the second half of a run may add, as a share of what is there.
MUST = 0.03


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py memory``."""
    parser.add_argument(
        "--config", default="llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes"
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=8, help="samples of a step")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=0, help="of the loader")
    parser.add_argument("--points", type=int, default=20, help="rows that are printed")


def resident_mib(process: int | str = "self") -> float:
    """Return the resident memory of a process in MiB."""
    with open(f"/proc/{process}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


class _Meter(Hook):
    """Note resident memory a number of times in a run."""

    def __init__(self, steps: int, points: int) -> None:
        self.every = max(1, steps // points)
        self.rows: list[dict[str, Any]] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Read the memory when it is due."""
        if (batch_idx + 1) % self.every == 0:
            self.rows.append(
                dict(benchmark="memory", step=batch_idx + 1, mib=round(resident_mib()))
            )


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train, then yield one row per reading."""
    from mmvlm.config import load_config
    from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
    from mmvlm.engine.runner import build_runner

    with tempfile.TemporaryDirectory() as folder:
        make_tiny_scenes(folder, num_train=args.scenes, num_test=1)
        options = {
            "train_dataloader.dataset.data_root": folder,
            "train_dataloader.batch_size": args.batch,
            "train_dataloader.num_workers": args.workers,
            "tokenizer.name_or_path": os.path.join(folder, "tokenizer"),
            "train_cfg.max_iters": args.steps,
            "load_from": None,
            "log_level": "ERROR",
        }
        cfg = load_config(args.config, cfg_options=options)
        cfg.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
        cfg.work_dir, cfg.launcher = os.path.join(folder, "run"), "none"
        meter = _Meter(args.steps, args.points)
        # Rows alone go to standard output.
        with contextlib.redirect_stdout(sys.stderr):
            runner = build_runner(cfg)
            runner.register_hook(meter)
            runner.train()
    yield from meter.rows


def growth(rows: list[dict[str, Any]]) -> float:
    """Return what the second half of a run added, as a share."""
    half = rows[len(rows) // 2 :]
    return half[-1]["mib"] / half[0]["mib"] - 1


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading."""
    lines = ["  step     MiB"]
    lines += [f"{row['step']:6} {row['mib']:7}" for row in rows]
    return [*lines, f"second half: {growth(rows):+.1%} (at most {MUST:.0%})"]
