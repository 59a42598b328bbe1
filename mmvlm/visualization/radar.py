"""Scores of several benchmarks as one figure."""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvlm.utils.files import write_atomic

from .page import new_figure

#: Scores whose labels find room side by side around a circle.
_MOST_LEVEL = 14


def draw_radar(path: str | os.PathLike, rows: Sequence[dict[str, Any]]) -> bool:
    """Draw scores as shares of what their references reach.

    Args:
        path (str | PathLike): a PNG file; one of an older run goes away where there is
            nothing to draw.
        rows (Sequence[dict]): of results: ``title``, ``score``, ``ceiling`` and, where
            they are known, ``chance``, ``interval``, ``variant`` and ``split``.

    Returns:
        bool: whether there are three scores or more, which make a figure.
    """
    rows = [one for one in rows if one["score"] is not None and one["ceiling"]]
    if len(rows) < 3:
        Path(path).unlink(missing_ok=True)
        return False
    angles = [2 * math.pi * number / len(rows) for number in range(len(rows))]
    is_crowded = len(rows) > _MOST_LEVEL
    figure = new_figure(*((9, 9) if is_crowded else (7.5, 6.5)))
    axes = figure.add_subplot(projection="polar")
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    scores = _shares(rows, [one["score"] for one in rows])
    low, high = (
        _shares(rows, [(one.get("interval") or [one["score"]] * 2)[n] for one in rows])
        for n in (0, 1)
    )
    around = [*angles, angles[0]]
    axes.fill_between(around, _closed(low), _closed(high), color="#2563eb", alpha=0.2)
    axes.plot(around, _closed(scores), color="#2563eb", linewidth=2, label="score")
    chance = _shares(rows, [one.get("chance") for one in rows])
    if any(value is not None for value in chance):
        drawn = [math.nan if value is None else value for value in chance]
        axes.plot(angles, drawn, "o", color="#64748b", markersize=4, label="chance")
    axes.set_xticks(angles, [""] * len(rows))
    for angle, name, row in zip(angles, _names(rows), rows, strict=True):
        number = f"{row['score']:.1f}"
        text = f"{name}  {number}" if is_crowded else f"{name}\n{number}"
        axes.text(angle, 106, text, fontsize=8, **_placed(angle, is_crowded))
    axes.set_ylim(0, 100)
    axes.set_yticks([25, 50, 75], ["25 %", "50 %", "75 %"], fontsize=7)
    axes.set_rlabel_position(180 / len(rows))
    figure.legend(loc="lower left", frameon=False, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, bbox_inches="tight", pad_inches=0.2)
    write_atomic(path, content.getvalue())
    return True


def _names(rows: Sequence[dict]) -> list[str]:
    """Return what rows are called, with the split where several are called alike."""
    names = [" ".join(filter(None, [o["title"], o.get("variant")])) for o in rows]
    twice = {name for name, count in Counter(names).items() if count > 1}
    return [
        f"{name} {row.get('split') or ''}".strip() if name in twice else name
        for name, row in zip(names, rows, strict=True)
    ]


def _placed(angle: float, is_along: bool) -> dict[str, Any]:
    """Return how a label stands outside of the circle, level or along its spoke.

    Args:
        angle (float): of the spoke, clockwise from the top.
        is_along (bool): whether labels lie along spokes, which takes many of them.
    """
    across, up = math.sin(angle), math.cos(angle)
    side = "left" if across >= 0 else "right"
    if is_along:
        turn = 90 - math.degrees(angle) + (0 if across >= 0 else 180)
        return dict(ha=side, va="center", rotation=turn, rotation_mode="anchor")
    if abs(up) > 0.9:
        return dict(ha="center", va="bottom" if up > 0 else "top")
    return dict(ha=side, va="center")


def _shares(rows: Sequence[dict], values: Sequence[float | None]) -> list:
    """Return values in percent of the ceilings of their rows."""
    return [
        None if value is None else min(100.0, 100.0 * value / row["ceiling"])
        for row, value in zip(rows, values, strict=True)
    ]


def _closed(values: Sequence[float]) -> list[float]:
    return [*values, values[0]]
