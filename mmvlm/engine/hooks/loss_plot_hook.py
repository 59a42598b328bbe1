"""An image of the run: loss, learning rate and validation metrics."""

from __future__ import annotations

import os
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmvlm.registry import HOOKS
from mmvlm.utils.files import writing

from .progress_hook import read_scalars


def draw_scalars(rows: list[dict], path: str, title: str = "") -> None:
    """Draw the curves of ``scalars.jsonl`` into a PNG.

    Args:
        rows (list[dict]): see :func:`read_scalars`.
        path (str): of the image.
        title (str): above the curves.
    """
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    rates = [(row["step"], row["lr"]) for row in rows if "lr" in row]
    metrics: dict[str, list] = {}
    for row in rows:
        for key, value in row.items():
            if key.startswith("val/"):
                metrics.setdefault(key, []).append((row["step"], value))
    panels = [("loss", dict(loss=losses)), ("learning rate", dict(lr=rates))]
    if metrics:
        panels.append(("validation", metrics))
    from mmvlm.visualization.page import new_figure

    figure = new_figure(8, 2.6 * len(panels))
    for number, (label, curves) in enumerate(panels, 1):
        axes = figure.add_subplot(len(panels), 1, number)
        for name, points in curves.items():
            if points:
                marker = "o" if label == "validation" else None
                axes.plot(*zip(*points, strict=True), marker=marker, ms=3, label=name)
        if label == "loss" and len(losses) >= 20:
            axes.plot(*_smooth(losses), lw=2, label="loss, smoothed")
            axes.legend()
        if label == "validation":
            axes.legend()
        axes.set(xlabel="optimizer step", ylabel=label)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    with writing(path):
        figure.savefig(path, dpi=110)


def _smooth(points: list[tuple], memory: float = 0.9) -> tuple[list, list]:
    """Return a running mean without the bias of its start."""
    steps, values, mean, weight = [], [], 0.0, 0.0
    for step, value in points:
        mean = memory * mean + (1 - memory) * value
        weight = memory * weight + (1 - memory)
        steps.append(step)
        values.append(mean / weight)
    return steps, values


@HOOKS.register_module()
class LossPlotHook(Hook):
    """Write ``loss.png`` into the work dir when training ends.

    Args:
        filename (str): of the image.
    """

    priority = "VERY_LOW"

    def __init__(self, filename: str = "loss.png") -> None:
        self.filename = filename

    def after_train(self, runner: Any) -> None:
        """Draw what ``ProgressHook`` has written."""
        if not is_main_process():
            return
        rows = read_scalars(runner.work_dir)
        if not rows:
            runner.logger.warning("no scalars.jsonl, so no loss plot.")
            return
        path = os.path.join(runner.work_dir, self.filename)
        draw_scalars(rows, path, os.path.basename(runner.work_dir))
        runner.logger.info(f"Loss curves: {path}")
