"""Loss curves of several stages in one image."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

from mmvlm.utils.files import writing
from mmvlm.visualization.page import new_figure

_LINE, _FAINT = "#2563eb", "#93b4f5"


def read_losses(path: str | os.PathLike) -> list[tuple[int, float]]:
    """Return (step, loss) of a ``scalars.jsonl``; a cut last line is left out.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it holds no loss.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"no scalars file '{path}'; ProgressHook writes it into the work dir."
        )
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.endswith("\n")]
    points = [(int(row["step"]), float(row["loss"])) for row in rows if "loss" in row]
    if not points:
        raise ValueError(f"'{path}' holds no loss.")
    return points


def smooth(values: Sequence[float]) -> list[float]:
    """Return a centred running mean over a twelfth of the values.

    It does not lag behind a falling loss; at the ends its window is cut.
    """
    reach = len(values) // 24
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def draw_loss_curves(
    stages: Sequence[dict[str, Any]], path: str | os.PathLike
) -> list[float]:
    """Draw a panel per stage into a PNG.

    Args:
        stages (Sequence[dict]): ``name`` and ``scalars`` (path); at least one.
        path (str | PathLike): of the image.

    Returns:
        list[float]: the last smoothed loss of every stage.
    """
    columns = min(len(stages), 2)
    lines = math.ceil(len(stages) / columns)
    figure = new_figure(5.6 * columns, 2.9 * lines)
    last = []
    for number, stage in enumerate(stages, 1):
        steps, losses = zip(*read_losses(stage["scalars"]), strict=True)
        curve = smooth(losses)
        last.append(curve[-1])
        axes = figure.add_subplot(lines, columns, number)
        axes.plot(steps, losses, color=_FAINT, lw=0.9)
        axes.plot(steps, curve, color=_LINE, lw=1.8)
        low, high = min(losses), max(losses)
        if low > 0 and high / low > 10:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(str(stage["name"]), fontsize=11, loc="left", weight="bold")
        axes.set_title(f"ends at {curve[-1]:.3g}", fontsize=9, loc="right")
        axes.set_xlabel("optimizer step", fontsize=9)
        axes.set_ylabel("loss", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    with writing(path):
        figure.savefig(path, dpi=120)
    return last
