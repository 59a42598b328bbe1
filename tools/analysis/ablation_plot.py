"""Scores of an ablation as bars with their seeds."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from mmvlm.utils.files import writing
from mmvlm.visualization.page import new_figure

_BAR, _PARENT, _DOT = "#93b4f5", "#94a3b8", "#0f172a"
_COLUMNS = 4


def draw_ablation(panels: Sequence[dict[str, Any]], path: str | os.PathLike) -> None:
    """Draw a panel per metric into a PNG; the first bar is the parent, in grey.

    Bars are means, whiskers standard deviations, dots the single seeds.

    Args:
        panels (Sequence[dict]): ``title``, ``percent`` (values are fractions and
            are shown in percent), ``bars``: (label, values by seed); a bar without
            values stays empty.
        path (str | PathLike): of the image.
    """
    columns = min(len(panels), _COLUMNS)
    lines = math.ceil(len(panels) / columns)
    height = 0.9 + 0.32 * max(len(panel["bars"]) for panel in panels)
    figure = new_figure(3.4 * columns + 0.8, height * lines)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(lines, columns, number + 1)
        _draw_panel(axes, panel)
        if number % columns:
            axes.set_yticklabels([])
    with writing(path):
        figure.savefig(path, dpi=120)


def _draw_panel(axes: Any, panel: dict[str, Any]) -> None:
    factor = 100 if panel["percent"] else 1
    for row, (_, values) in enumerate(panel["bars"]):
        if not values:
            continue
        scaled = [value * factor for value in values]
        spread = stdev(scaled) if len(scaled) > 1 else None
        colour = _BAR if row else _PARENT
        axes.barh(row, mean(scaled), xerr=spread, color=colour, height=0.7, capsize=3)
        axes.plot(scaled, [row] * len(scaled), "o", color=_DOT, ms=3)
    axes.set_yticks(range(len(panel["bars"])), [label for label, _ in panel["bars"]])
    axes.set_ylim(len(panel["bars"]) - 0.5, -0.5)
    unit = " %" if panel["percent"] else ""
    axes.set_title(f"{panel['title']}{unit}", fontsize=10, loc="left", weight="bold")
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
