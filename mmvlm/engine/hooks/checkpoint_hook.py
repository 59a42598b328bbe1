"""Saves checkpoints, keeps the newest few, and notes which is the last."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmvlm.registry import HOOKS

from ..runner.checkpoint import write_last


@HOOKS.register_module()
class VLMCheckpointHook(Hook):
    """Write a checkpoint every so many steps or epochs, and at the end.

    Files are named after the optimizer steps done (``iter_1200.pth``). The last one
    is noted in ``last_checkpoint`` after it is complete on disk.

    Args:
        interval (int | None): optimizer steps, or epochs with ``by_epoch``; None
            saves at the end only.
        by_epoch (bool): count epochs.
        max_keep (int): newest files to keep; -1 keeps all.
        trainable_only (bool): leave out frozen parameters, see
            :func:`mmvlm.engine.runner.state.save_training_state`.
        save_optimizer (bool): False writes weights that cannot be resumed.
        save_best (str | None): key of the validation metrics; the file with the
            best value is kept as ``best.pth`` (weights only).
        rule (str): ``greater`` or ``less`` is better.

    Raises:
        ValueError: for an interval below 1 or an unknown rule.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        interval: int | None = None,
        *,
        by_epoch: bool = False,
        max_keep: int = 3,
        trainable_only: bool = False,
        save_optimizer: bool = True,
        save_best: str | None = None,
        rule: str = "greater",
    ) -> None:
        if interval is not None and interval < 1:
            raise ValueError(f"checkpoint.interval={interval}: expected 1 or more.")
        if max_keep == 0:
            raise ValueError("checkpoint.max_keep=0 would keep nothing; -1 keeps all.")
        if rule not in ("greater", "less"):
            raise ValueError(f"checkpoint.rule='{rule}': expected greater or less.")
        self.interval = interval
        self.by_epoch = by_epoch
        self.max_keep = max_keep
        self.trainable_only = trainable_only
        self.save_optimizer = save_optimizer
        self.save_best = save_best
        self.rule = rule
        self.kept: list[str] = []
        self.best: float | None = None
        self.saved: int | None = None

    def state_dict(self) -> dict:
        """Return which files are kept and the best value."""
        return dict(kept=list(self.kept), best=self.best)

    def load_state_dict(self, state: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.kept, self.best = list(state["kept"]), state["best"]

    def before_train(self, runner: Any) -> None:
        """Remove what killed writers left behind; forget files of later steps.

        A run that was resumed with changes may count fewer steps than its file.
        """
        done = runner.train_loop.completed_steps
        self.kept = [name for name in self.kept if int(name[5:-4]) <= done]
        if is_main_process():
            for path in Path(runner.work_dir).glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save when a step is due, and after the last one."""
        due = (
            not self.by_epoch
            and self.interval is not None
            and (runner.iter + 1) % self.interval == 0
        )
        if due or runner.iter + 1 >= runner.max_iters:
            self.save(runner)

    def after_train_epoch(self, runner: Any) -> None:
        """Save when an epoch is due."""
        due = self.by_epoch and self.interval is not None
        if due and (runner.epoch + 1) % self.interval == 0:
            self.save(runner)

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Keep the best weights."""
        if self.save_best is None or runner.train_loop is None:
            return
        if self.save_best not in (metrics or {}):
            raise KeyError(
                f"checkpoint.save_best='{self.save_best}': the validation has "
                f"{sorted(metrics or {})}."
            )
        value = float(metrics[self.save_best])
        sign = 1 if self.rule == "greater" else -1
        if self.best is None or sign * value > sign * self.best:
            self.best = value
            runner.save_checkpoint(
                runner.work_dir,
                "best.pth",
                save_optimizer=False,
                trainable_only=self.trainable_only,
                meta=dict(best={self.save_best: value}),
            )
            runner.logger.info(f"best.pth: {self.save_best}={value:.4f}")

    def after_stop(self, runner: Any, number: int) -> None:
        """Write what an interrupted run goes on from, and say how."""
        name = signal.Signals(number).name
        done = runner.train_loop.completed_steps
        if not done:
            runner.logger.warning(
                f"Stopped by {name} before the first step, nothing to save: give the "
                "same command to begin again."
            )
            return
        if self.saved != done or not self.save_optimizer:
            self.save(runner, whole=True)
        path = os.path.join(runner.work_dir, f"iter_{done}.pth")
        runner.logger.warning(
            f"Stopped by {name} after step {done}, saved in '{path}': add --resume to "
            "the same command to go on."
        )

    def save(self, runner: Any, whole: bool = False) -> None:
        """Write a checkpoint of the steps done so far, once.

        Args:
            runner (Runner): the runner.
            whole (bool): with the optimizer, whatever ``save_optimizer`` says.
        """
        name = f"iter_{runner.train_loop.completed_steps}.pth"
        removed = []
        if name not in self.kept:
            self.kept.append(name)
        if self.max_keep > 0:
            removed = self.kept[: -self.max_keep]
            self.kept = self.kept[-self.max_keep :]
        runner.save_checkpoint(
            runner.work_dir,
            name,
            save_optimizer=self.save_optimizer or whole,
            trainable_only=self.trainable_only,
        )
        self.saved = runner.train_loop.completed_steps
        if is_main_process():
            write_last(runner.work_dir, name)
            for old in removed:
                Path(os.path.join(runner.work_dir, old)).unlink(missing_ok=True)
        runner.logger.info(f"Saved {name}.")
