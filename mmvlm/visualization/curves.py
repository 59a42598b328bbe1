"""Loss curves of several runs side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence


def read_curve(path: str | os.PathLike, key: str = "loss") -> list[tuple[int, float]]:
    """Read (step, value) of one scalar from a file with a JSON object per line."""
    points = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line) if line.strip() else {}
            if key in row and "step" in row:
                points.append((int(row["step"]), float(row[key])))
    return points


def draw_curves(
    curves: dict[str, Sequence[tuple[int, float]]],
    path: str | os.PathLike,
    *,
    log: bool = True,
) -> None:
    """Draw one panel per run.

    Args:
        curves (dict): title to points (step, loss).
        path (str | PathLike): of the PNG.
        log (bool): logarithmic losses.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(curves), 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, points) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(1, len(curves), number)
        if points:
            axes.plot(*zip(*points, strict=True), lw=1.4)
        if log and points and min(loss for _, loss in points) > 0:
            axes.set_yscale("log")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("optimizer step", fontsize=8)
        if number == 1:
            axes.set_ylabel("training loss", fontsize=8)
        axes.tick_params(labelsize=7, which="both")
        axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=110)
