"""One line of progress every few steps, and the same numbers as scalars."""

from __future__ import annotations

import json
import os
import resource
import time
from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import LoggerHook

from mmvlm.registry import HOOKS
from mmvlm.utils.files import writing

from ..runner.checkpoint import unwrap, write_atomic

SCALARS_FILE = "scalars.jsonl"


def memory_gib() -> float:
    """Return the peak memory of this process's device (RAM on a CPU) in GiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def read_scalars(folder: str) -> list[dict]:
    """Return the scalars of a run, one dict per logged step.

    A last line that a killed run cut is left out.
    """
    path = os.path.join(folder, SCALARS_FILE)
    rows = []
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    rows.append(json.loads(line))
    return rows


@HOOKS.register_module()
class ProgressHook(LoggerHook):
    """Log progress of training; validation and test as mmengine's LoggerHook.

    A line holds step, ETA, loss (mean since the last line), learning rate, samples,
    tokens, trained tokens and images per second over all ranks, peak memory, MFU
    (GPU only), the share of time spent waiting for data, and how evenly the tokens
    are dealt to ranks. There is no padding: the batch is flat.

    All of it goes to the visualizer's backends (TensorBoard ...) and, one JSON object
    per line, to ``scalars.jsonl`` in the work dir.

    Args:
        interval (int): optimizer steps between lines.
        peak_tflops (float | None): of one device, for MFU; None looks it up.
        **kwargs: see :class:`mmengine.hooks.LoggerHook`.
    """

    def __init__(
        self, interval: int = 10, *, peak_tflops: float | None = None, **kwargs: Any
    ) -> None:
        kwargs.setdefault("log_metric_by_epoch", False)
        super().__init__(interval=interval, **kwargs)
        self.peak_tflops = peak_tflops
        self._window: dict[str, float] = {}
        self._began = 0.0
        self._seconds_per_step: float | None = None
        self._cost: Any = None

    def before_run(self, runner: Any) -> None:
        """Prepare the log file's name and the cost model."""
        from .flops import device_peak

        super().before_run(runner)
        self._peak = device_peak(self.peak_tflops)

    def before_train(self, runner: Any) -> None:
        """Cut the scalars of steps that are made again after a resume."""
        self._clear()
        if self._peak is not None:
            from .flops import StepCost

            self._cost = getattr(runner, "step_cost", None) or StepCost(
                unwrap(runner.model)
            )
        if is_main_process():
            rows = read_scalars(runner.work_dir)
            kept = [json.dumps(row) for row in rows if row["step"] <= runner.iter]
            text = "".join(f"{line}\n" for line in kept)
            path = os.path.join(runner.work_dir, SCALARS_FILE)
            write_atomic(path, text)

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start the clock of a step."""
        self._began = time.perf_counter()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add up a step; log a line when it is due."""
        step = runner.train_loop.step
        window = self._window
        window["seconds"] += time.perf_counter() - self._began + step.data_seconds
        window["data_seconds"] += step.data_seconds
        window["loss"] += step.loss
        window["balance"] += step.balance
        window["steps"] += 1
        for name in ("samples", "tokens", "targets", "images"):
            window[name] += getattr(step, f"num_{name}")
        done, total = runner.iter + 1, runner.max_iters
        if done % self.interval and done < total:
            return
        scalars = self._scalars(runner, done)
        runner.logger.info(self._line(scalars, done, total))
        self._write(runner, scalars)
        self._clear()

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Log metrics as mmengine does, and into ``scalars.jsonl``."""
        super().after_val_epoch(runner, metrics)
        numbers = {
            f"val/{key}": float(value)
            for key, value in (metrics or {}).items()
            if isinstance(value, int | float)
        }
        if runner.train_loop is not None and numbers:
            step = runner.train_loop.completed_steps
            self._write_line(runner, dict(step=step, **numbers))

    def _clear(self) -> None:
        names = "seconds data_seconds loss balance steps samples tokens targets images"
        self._window = dict.fromkeys(names.split(), 0.0)

    def _scalars(self, runner: Any, done: int) -> dict:
        window = self._window
        seconds, steps = max(window["seconds"], 1e-9), window["steps"]
        recent = seconds / steps
        # A smooth ETA: half its memory is gone after one more line.
        before = self._seconds_per_step
        self._seconds_per_step = recent if before is None else (before + recent) / 2
        scalars = dict(
            step=done,
            epoch=runner.train_loop.stream.passed,
            loss=window["loss"] / steps,
            **_learning_rates(runner.optim_wrapper),
            seconds_per_step=recent,
            samples_per_second=window["samples"] / seconds,
            tokens_per_second=window["tokens"] / seconds,
            trained_tokens_per_second=window["targets"] / seconds,
            images_per_second=window["images"] / seconds,
            memory_gib=memory_gib(),
            data_wait_fraction=window["data_seconds"] / seconds,
            padding_fraction=0.0,
            rank_balance=window["balance"] / steps,
        )
        norm = getattr(runner.optim_wrapper, "grad_norm", None)
        if norm is not None:
            scalars["grad_norm"] = float(norm)
        for name, value in runner.train_loop.step.log_vars.items():
            if not name.startswith("loss"):
                scalars[name] = float(value)
        scalars.update(runner.train_loop.named_losses())
        if self._cost is not None and self._peak is not None:
            flops = self._cost.flops(
                window["tokens"], window["images"], window["samples"]
            )
            scalars["mfu"] = flops / seconds / (self._peak * get_world_size())
        return scalars

    def _line(self, scalars: dict, done: int, total: int) -> str:
        left = timedelta(seconds=int((total - done) * self._seconds_per_step))
        rates = {k: v for k, v in scalars.items() if k == "lr" or k.startswith("lr/")}
        if len(set(rates.values())) > 1:
            lr = " ".join(f"{k[3:]}:{v:.2e}" for k, v in rates.items() if k != "lr")
        else:
            lr = f"{scalars['lr']:.2e}"
        parts = [
            f"step {done}/{total}",
            f"ETA {left}",
            f"loss {scalars['loss']:.4f}{_named(scalars)}",
            f"lr {lr}",
            f"{scalars['samples_per_second']:.1f} samples/s",
            f"{scalars['tokens_per_second']:.0f} tokens/s",
            f"({scalars['trained_tokens_per_second']:.0f} trained)",
            f"{scalars['memory_gib']:.2f} GiB",
        ]
        if "mfu" in scalars:
            parts.append(f"MFU {scalars['mfu']:.1%}")
        if "grad_norm" in scalars:
            parts.append(f"grad {scalars['grad_norm']:.3g}")
        parts.append(f"data wait {scalars['data_wait_fraction']:.0%}")
        if get_world_size() > 1:
            parts.append(f"balance {scalars['rank_balance']:.0%}")
        return "  ".join(parts)

    def _write(self, runner: Any, scalars: dict) -> None:
        runner.visualizer.add_scalars(
            {f"train/{k}": v for k, v in scalars.items() if k != "step"},
            step=scalars["step"],
            file_path=self.json_log_path,
        )
        self._write_line(runner, scalars)

    def _write_line(self, runner: Any, row: dict) -> None:
        if is_main_process():
            path = os.path.join(runner.work_dir, SCALARS_FILE)
            with writing(path), open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def _named(scalars: dict) -> str:
    """Return the losses of a model with several, by name: `` (text 1.2, mask 0.3)``."""
    found = {n[5:]: v for n, v in scalars.items() if n.startswith("loss_")}
    inside = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    return f" ({inside})" if found else ""


def _learning_rates(optim_wrapper: Any) -> dict[str, float]:
    """Return ``lr`` (the largest) and ``lr/<part>`` of every part."""
    rates: dict[str, float] = {}
    for group in optim_wrapper.optimizer.param_groups:
        name = f"lr/{group.get('part', 'all')}"
        rates[name] = max(rates.get(name, 0.0), float(group["lr"]))
    return dict(lr=max(rates.values(), default=0.0), **rates)
