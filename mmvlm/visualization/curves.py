"""Curves of a training: loss, learning rate, validation."""

from __future__ import annotations

from mmvlm.utils.files import writing

from .page import new_figure


def draw_scalars(rows: list[dict], path: str, title: str = "") -> None:
    """Draw the curves of ``scalars.jsonl`` into a PNG.

    Args:
        rows (list[dict]): see :func:`mmvlm.engine.hooks.progress_hook.read_scalars`.
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
