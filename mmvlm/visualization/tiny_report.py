"""The report of a TinyScenes run: tables, loss curves, held-out pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .answers import box_in_pixels, draw_answers
from .curves import draw_curves, read_curve
from .html import Report


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read the JSON lines of ``TinyScenesMetric``."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def pick_rows(
    rows: Sequence[dict[str, Any]], per_task: int, *, wrong: bool = False
) -> list[dict[str, Any]]:
    """Take the first rows of every task, or the first that are wrong.

    The first, not the best: rows stand in the order of the test file.
    """
    picked: list[dict[str, Any]] = []
    for task in dict.fromkeys(row["task"] for row in rows):
        members = [r for r in rows if r["task"] == task and not (wrong and r["strict"])]
        picked += members[:per_task]
    return picked


def with_boxes(row: dict[str, Any], read_box: Any) -> dict[str, Any]:
    """Add what :func:`draw_answers` needs to a row of the metric.

    Args:
        row (dict): with ``image``, and ``box`` and ``size`` for pointing.
        read_box (Callable): text to four numbers in percent, or None.

    """
    out = dict(row, picture=row["image"], true_box=row.get("box"))
    if row.get("box") is not None:
        percent = read_box(row["prediction"])
        if percent is not None:
            out["predicted_box"] = box_in_pixels(percent, row["size"])
    return out


def result_table(
    table: dict[str, dict], blind: dict[str, dict]
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows (percent) of the final table.

    Args:
        table (dict): :func:`mmvlm.evaluation.functional.tiny_scenes.summarise` of
            the test.
        blind (dict): the same with pictures dealt to other questions.

    """
    header = ["task", "questions", "accuracy", "lenient", "blind", "majority answer"]
    rows = [
        [
            task,
            str(line["number"]),
            *(f"{100 * line[key]:.1f}" for key in ("strict", "lenient")),
            f"{100 * blind[task]['strict']:.1f}",
            f"{100 * line['majority']:.1f}",
        ]
        for task, line in table.items()
    ]
    return header, rows


def write_tiny_report(
    folder: str | os.PathLike,
    *,
    rows: Sequence[dict[str, Any]],
    table: dict[str, dict],
    blind: dict[str, dict],
    curves: dict[str, str | os.PathLike],
    stages: Sequence[tuple[str, float]],
    read_box: Any,
    notes: Sequence[str] = (),
    chat: str = "",
) -> Path:
    """Write ``report.html`` and its PNGs.

    Args:
        folder (str | PathLike): made when missing.
        rows (Sequence[dict]): judged test answers (see :func:`read_rows`).
        table (dict): summary of the test, see :func:`result_table`.
        blind (dict): summary of the blind test.
        curves (dict): stage title to its ``scalars.jsonl``.
        stages (Sequence[tuple[str, float]]): title and seconds of every stage.
        read_box (Callable): text to four numbers in percent, or None.
        notes (Sequence[str]): paragraphs under the table.
        chat (str): an example dialogue.

    Returns:
        Path: of the page.

    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    losses = {title: read_curve(path) for title, path in curves.items()}
    draw_curves(losses, folder / "loss_curves.png")
    draw_answers(
        [with_boxes(row, read_box) for row in pick_rows(rows, 3)],
        folder / "answers.png",
        title="Held-out questions, the first of every task",
        columns=6,
    )
    report = Report("A miniature vision-language model on TinyScenes")
    report.heading("Held-out questions, percent right")
    header, lines = result_table(table, blind)
    report.table(header, lines, has_total=True)
    for note in notes:
        report.text(note)
    report.heading("Held-out pictures")
    report.text(
        "Green: right; red: wrong, with the right answer. Boxes: green is true, "
        "orange is predicted."
    )
    report.picture(folder / "answers.png", "held-out questions with predictions")
    mistakes = pick_rows(rows, 2, wrong=True)
    if mistakes:
        draw_answers(
            [with_boxes(row, read_box) for row in mistakes],
            folder / "mistakes.png",
            title="Mistakes, the first of every task",
            columns=6,
        )
        report.heading("Mistakes")
        report.picture(folder / "mistakes.png", "questions answered wrongly")
    report.heading("Training")
    report.picture(folder / "loss_curves.png", "training loss of every stage")
    report.table(["stage", "seconds"], [(t, f"{s:.0f}") for t, s in stages])
    if chat:
        report.heading("A dialogue")
        report.code(chat)
    report.write(folder / "report.html")
    return folder / "report.html"
