"""Results of a run as tables: JSON, CSV, Markdown and text."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvlm.utils.files import write_atomic
from mmvlm.utils.text_table import text_table

Row = dict[str, Any]

#: Columns of CSV files: fields of a row.
_COLUMNS = (
    *("benchmark", "title", "split", "variant", "scorer", "rule", "headline"),
    *("score", "low", "high", "standard_error", "strict", "lenient"),
    *("expected", "answered", "failed", "cut", "unparsed", "published_items"),
    *("blind_shuffle", "blind_text", "needs_picture", "ceiling", "chance"),
    *("published", "published_of", "data_version", "judge", "note"),
)


def shown(row: Row) -> dict[str, str]:
    """Return what tables for people show of a row, by column."""
    low, high = row.get("interval") or (None, None)
    name = " ".join(filter(None, [row["title"], row["variant"]]))
    cells = dict(
        benchmark=name,
        split=row["split"],
        rule=f"{row['headline']} ({row['rule']})",
        score=_number(row["score"]),
        interval="" if low is None else f"{low:.1f} - {high:.1f}",
        strict=_number(row["strict"]),
        lenient=_number(row["lenient"]),
        items=f"{row['answered']}/{row['expected']}",
        failed=str(row["failed"]),
        unparsed="" if row["unparsed"] is None else str(row["unparsed"]),
        blind=_number(row.get("blind_shuffle", row.get("blind_text"))),
        published=_number(row.get("published")),
        chance=_number(row["chance"]),
        ceiling=f"{row['ceiling']:g}",
        judge=_judge(row),
        note=row["note"],
    )
    return cells


def _judge(row: Row) -> str:
    """Return who rated the answers, and what it took."""
    usage = row.get("judge_usage")
    if not (row.get("judge") and usage):
        return row.get("judge") or ""
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    cost = "" if usage["cost"] is None else f", cost {usage['cost']:.2f}"
    failed = f", {usage['failed']} failed" if usage["failed"] else ""
    return (
        f"{row['judge']} ({usage['requests']} requests, {tokens} tokens{cost}{failed})"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _needed(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the shown cells without columns that are empty everywhere."""
    cells = [shown(row) for row in rows]
    empty = {key for key in cells[0] if not any(one[key] for one in cells)}
    return [{k: v for k, v in one.items() if k not in empty} for one in cells]


def _published_of(rows: Sequence[Row]) -> list[str]:
    """Say whose scores the published ones are."""
    names = dict.fromkeys(filter(None, (row.get("published_of") for row in rows)))
    return [f"published: scores of {name}, see its metafile.yml" for name in names]


def text(rows: Sequence[Row]) -> str:
    """Return rows as an aligned text table."""
    cells = _needed(rows)
    table = text_table([list(cells[0]), *(one.values() for one in cells)], left=3)
    return "\n".join([table, *_published_of(rows)])


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    cells = _needed(rows)
    table = [list(cells[0]), ["---"] * len(cells[0])]
    table += [[v.replace("|", "\\|") for v in one.values()] for one in cells]
    lines = [f"| {' | '.join(line)} |" for line in table]
    return "\n".join([*lines, *(f"\n{one}" for one in _published_of(rows)), ""])


def comma_separated(rows: Sequence[Row]) -> str:
    """Return rows as CSV."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        low, high = row.get("interval") or (None, None)
        writer.writerow({**row, "low": low, "high": high})
    return file.getvalue()


def write_tables(folder: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Write ``results.json``, ``results.md`` and ``results.csv`` of a run."""
    folder = Path(folder)
    write_atomic(folder / "results.json", json.dumps(list(rows), indent=1) + "\n")
    write_atomic(folder / "results.csv", comma_separated(rows))
    write_atomic(folder / "results.md", markdown(rows))
