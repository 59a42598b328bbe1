"""The dataset doctor from a config to tables, files and images."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from data_figures import draw_lengths, draw_mixture
from dataset_doctor.checker import DataChecker
from dataset_doctor.report import DataReport

_MARKS = {"problem": "bold red", "warning": "yellow", "note": "cyan"}


def check_data(
    dataset: Any,
    *,
    training: bool = True,
    bound: bool = False,
    full: bool = True,
    workers: int = 0,
    ignore: Iterable[str] = (),
    limit: int | None = None,
    console: Any = None,
) -> DataReport:
    """Check a dataset or mixture, with a progress line.

    Args:
        dataset (Dataset): built.
        training (bool): whether answers are trained.
        bound (bool): whether ``dataset.bind`` was called.
        full (bool): decode images and run the pipeline; else read their heads.
        workers (int): processes; 0 works in this one.
        ignore (Iterable[str]): names of rules to leave out.
        limit (int | None): samples per dataset.
        console (rich.console.Console | None): shows the progress; None shows none.
    """
    checker = DataChecker(
        dataset,
        decode=full,
        bound=bound,
        training=training,
        workers=workers,
        ignore=ignore,
        limit=limit,
    )
    if console is None:
        return checker()
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("samples", total=len(checker))
        return checker(lambda count: bar.advance(task, count))


def render_report(report: DataReport, console: Any, examples: int = 3) -> None:
    """Print a table of datasets and one of rules with first examples.

    Args:
        report (DataReport): of :func:`check_data`.
        console (rich.console.Console): to print on.
        examples (int): per rule.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Data sets", title_justify="left")
    for head in (
        "data set",
        "samples",
        "seen",
        "images",
        "tokens: median",
        "longest",
    ):
        table.add_column(head, justify="left" if head == "data set" else "right")
    for member in report.members:
        numbers = member.to_dict()["tokens"] or {}
        cells = [member.num_samples, member.num_seen, member.num_images]
        cells += [f"{numbers[k]:.0f}" if numbers else "-" for k in ("p50", "p100")]
        table.add_row(Text(member.name), *map(str, cells))
    console.print(table)
    table = Table(title="Rules", title_justify="left")
    for head in ("rule", "found", "first examples"):
        table.add_column(head, justify="right" if head == "found" else "left")
    for name, level in report.levels.items():
        table.add_row(*_row(report, name, level, examples))
    console.print(table)
    for note in report.notes:
        console.print(Text(f"note: {note}"))
    if report.interrupted:
        console.print(
            f"interrupted: {report.num_seen} of {report.num_planned} samples were seen."
        )
    bad = len(report.bad_samples())
    words = f"{bad} of {report.num_seen} samples have a problem."
    console.print(Text(words, style="bold red" if bad else "bold green"))


def _row(report: DataReport, name: str, level: str, examples: int) -> tuple:
    from rich.text import Text

    found = report.of_rule(name)
    counts = report.tallies.get(name, {})
    lines = [
        f"{f.dataset} {f.index} (id '{f.id:.40}'): {f.reason:.300}"
        for f in found[:examples]
    ]
    if len(found) > examples:
        lines.append(f"... and {len(found) - examples} more")
    lines += (
        [f"{key}: {count}" for key, count in counts.most_common(12)] if counts else []
    )
    total = len(found) or sum(counts.values())
    style = _MARKS[level] if total else "green"
    return (
        Text(f"{name}\n({level})" if total else name, style=style),
        Text(str(total), style=style),
        Text("\n".join(lines)),
    )


def write_files(report: DataReport, folder: str | os.PathLike) -> list[str]:
    """Write report, quarantine list and histograms; returns their paths.

    Args:
        report (DataReport): of :func:`check_data`.
        folder (str | PathLike): made when missing.
    """
    os.makedirs(folder, exist_ok=True)
    paths = report.write(folder)
    if any(member.words or member.tokens for member in report.members):
        paths += [os.path.join(folder, n) for n in ("lengths.png", "mixture.png")]
        draw_lengths(report.members, paths[-2])
        draw_mixture(report.members, paths[-1])
    return paths
