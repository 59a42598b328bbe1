"""Pictures of questions, answers and predictions, with boxes drawn."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

#: RGB of true and predicted boxes, 0-1.
TRUE_COLOUR, PREDICTED_COLOUR = (0.25, 0.95, 0.35), (1.0, 0.6, 0.1)
_CELL = 2.3


def box_in_pixels(percent: Sequence[float], size: Sequence[float]) -> list[float]:
    """Turn ``x1, y1, x2, y2`` in percent into pixels of a (height, width) picture."""
    height, width = size
    scale = (width / 100, height / 100) * 2
    return [float(v) * s for v, s in zip(percent, scale, strict=True)]


def load_picture(path: str) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB."""
    with PIL.Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def draw_answers(
    rows: Sequence[dict[str, Any]],
    path: str | os.PathLike,
    *,
    title: str = "",
    columns: int = 5,
) -> None:
    """Draw a grid: each picture with question, answer and prediction.

    Titles are green where the prediction is right and red where it is wrong. True
    boxes are green, predicted boxes orange.

    Args:
        rows (Sequence[dict]): ``picture`` (a path or an RGB array), ``question``,
            ``answer``, ``prediction``, ``strict`` (bool) and optionally
            ``true_box`` and ``predicted_box``, ``x1, y1, x2, y2`` in pixels.
        path (str | PathLike): of the PNG.
        title (str): above the grid.
        columns (int): pictures per line.

    Raises:
        ValueError: without rows.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("draw_answers: no rows to draw.")
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(columns * _CELL, lines * (_CELL + 1.0)))
    FigureCanvasAgg(figure)
    for number, row in enumerate(rows, 1):
        axes = figure.add_subplot(lines, columns, number)
        _draw_cell(axes, row)
    top = 1 - 0.55 / (lines * (_CELL + 1.0))
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(rect=(0, 0, 1, top), h_pad=1.6)
    figure.savefig(path, dpi=100)


def _draw_cell(axes: Any, row: dict[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    picture = row["picture"]
    if not isinstance(picture, np.ndarray):
        picture = load_picture(picture)
    height, width = picture.shape[:2]
    axes.imshow(picture, interpolation="nearest", extent=(0, width, height, 0))
    for key, colour in (
        ("true_box", TRUE_COLOUR),
        ("predicted_box", PREDICTED_COLOUR),
    ):
        if row.get(key) is not None:
            x1, y1, x2, y2 = row[key]
            axes.add_patch(
                Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=1.6)
            )
    axes.set(xticks=[], yticks=[])
    question = "\n".join(textwrap.wrap(row["question"], 31)[:3])
    axes.set_title(question, fontsize=7.5, loc="left", pad=3)
    said = row["prediction"] or "(nothing)"
    text = said if row["strict"] else f"{said}\n(right: {row['answer']})"
    wrapped = "\n".join(
        line for part in text.split("\n") for line in textwrap.wrap(part, 33)[:4]
    )
    colour = "#12702a" if row["strict"] else "#b3261e"
    axes.set_xlabel(wrapped, fontsize=7.5, color=colour, loc="left")
