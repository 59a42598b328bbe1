"""A grid of test images with question, answer, prediction and boxes."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from mmvlm.evaluation.functional.tiny_scenes import find_box, to_pixels
from mmvlm.utils.files import writing
from mmvlm.visualization.page import new_figure

TRUE_COLOUR, PREDICTED_COLOUR = "#22c55e", "#f97316"
_RIGHT, _WRONG, _GREY = "#15803d", "#c2410c", "#64748b"
# Inches of one cell; the image fills its height but for the margin.
_CELL_W, _CELL_H, _MARGIN = 4.1, 1.7, 0.12
_WRAP = 36


def select_rows(
    rows: Sequence[dict[str, Any]], num: int = 24, max_wrong: int = 6
) -> list[dict[str, Any]]:
    """Choose answers to show: every task, and wrong answers on purpose.

    Tasks take turns; up to ``max_wrong`` of the chosen are wrong ones, also one
    per task at a time.

    Args:
        rows (Sequence[dict]): judged rows.
        num (int): how many to choose, at most.
        max_wrong (int): wrong ones among them, at most (more only when there are
            not enough right ones).

    Returns:
        list[dict]: in the order of tasks, right answers first.
    """
    right = _deal([row for row in rows if row["strict"]])
    wrong = _deal([row for row in rows if not row["strict"]])
    num_wrong = max(min(len(wrong), max_wrong), num - len(right))
    chosen = right[: num - min(num_wrong, len(wrong))] + wrong[:num_wrong]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    chosen.sort(key=lambda row: (tasks.index(row["task"]), not row["strict"]))
    return chosen


def _deal(rows: Sequence[dict]) -> list[dict]:
    """Reorder so that tasks take turns, within a task forms."""
    turn: dict[tuple, int] = {}
    keys = []
    for row in rows:
        form = (row["task"], row["form"])
        turn[form] = turn.get(form, 0) + 1
        keys.append((turn[form], row["form"]))
    by_task: dict[str, list] = {}
    for _, row in sorted(zip(keys, rows, strict=True), key=lambda pair: pair[0]):
        by_task.setdefault(row["task"], []).append(row)
    longest = max(map(len, by_task.values()), default=0)
    turns = ((n, members) for n in range(longest) for members in by_task.values())
    return [members[n] for n, members in turns if n < len(members)]


def image_path(row: dict[str, Any], image_root: str | os.PathLike = "") -> str:
    """Return the path of a row's image.

    Raises:
        FileNotFoundError: naming the sample, when it is missing.
    """
    path = os.path.join(image_root, row["image"])
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"sample '{row.get('sample_id', '')}': no image '{path}'; give the "
            "folder that paths in the answers are relative to as image_root."
        )
    return path


def boxes_of(row: dict[str, Any]) -> list[tuple[str, str, tuple[float, ...]]]:
    """Return what to draw: ``[("true" | "predicted", colour, pixel box), ...]``."""
    out: list[tuple[str, str, tuple[float, ...]]] = []
    if row.get("box") is not None:
        out.append(("true", TRUE_COLOUR, tuple(row["box"])))
        percent = find_box(row["pred"])
        if percent is not None:
            box = to_pixels(percent, row["size"])
            out.append(("predicted", PREDICTED_COLOUR, box))
    return out


def draw_grid(
    rows: Sequence[dict[str, Any]],
    path: str | os.PathLike,
    *,
    image_root: str | os.PathLike = "",
    columns: int = 4,
) -> None:
    """Draw chosen answers into a PNG.

    Images are enlarged without smoothing; a pointing question shows the true box
    (green) and the predicted one (orange, dashed).

    Args:
        rows (Sequence[dict]): see :func:`select_rows`.
        path (str | PathLike): of the PNG.
        image_root (str | PathLike): joined before relative image paths.
        columns (int): cells per line.
    """
    columns = min(columns, max(len(rows), 1))
    lines = max(math.ceil(len(rows) / columns), 1)
    width, height = columns * _CELL_W + _MARGIN, lines * _CELL_H + _MARGIN
    figure = new_figure(width, height, layout=None)
    side = _CELL_H - _MARGIN
    for number, row in enumerate(rows):
        x = (number % columns) * _CELL_W + _MARGIN
        y = height - (number // columns + 1) * _CELL_H
        area = (x / width, y / height, side / width, side / height)
        _draw_image(figure.add_axes(area), row, image_root)
        area = ((x + side) / width, area[1], 0.01, area[3])
        _write_texts(figure.add_axes(area), row, side)
    with writing(path):
        figure.savefig(path, dpi=120)


def _draw_image(axes: Any, row: dict, image_root: str | os.PathLike) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=_RIGHT if row["strict"] else _WRONG, linewidth=2)
    if row.get("image") is None:
        axes.text(0.5, 0.5, "no image", ha="center", va="center", fontsize=8)
        return
    pixels = read_rgb(image_path(row, image_root))
    height, width = pixels.shape[:2]
    axes.imshow(
        pixels, interpolation="nearest", extent=(0, width, height, 0), aspect="auto"
    )
    for name, colour, (x1, y1, x2, y2) in boxes_of(row):
        dashes = "--" if name == "predicted" else "-"
        axes.plot(
            (x1, x2, x2, x1, x1), (y1, y1, y2, y2, y1), dashes, color=colour, lw=1.8
        )
    axes.set(xlim=(0, width), ylim=(height, 0))


def _write_texts(axes: Any, row: dict, side: float) -> None:
    """Write task, question, truth and prediction below each other."""
    axes.axis("off")
    right = row["strict"]
    blocks = [
        (row["task"], _GREY, "normal"),
        (row["question"], "#0f172a", "bold"),
        (f"truth: {row['gt']}", "#0f172a", "normal"),
        (
            f"{'right' if right else 'WRONG'}: {row['pred'] or '(nothing)'}",
            _RIGHT if right else _WRONG,
            "normal",
        ),
    ]
    line = 0.135 / side
    top = 1.0 - 0.02
    for text, colour, weight in blocks:
        wrapped = textwrap.wrap(text, _WRAP, max_lines=4, placeholder=" ...")
        axes.text(
            0.6,
            top,
            "\n".join(wrapped),
            transform=axes.transAxes,
            va="top",
            fontsize=7.6,
            linespacing=1.15,
            color=colour,
            weight=weight,
        )
        top -= line * len(wrapped) + 0.02


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    Raises:
        ValueError: when the file is no image.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"'{path}' is not an image that OpenCV can read.")
    return pixels[..., ::-1]
