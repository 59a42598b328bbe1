"""From answers to a row of results: verdicts, totals, the interval of the headline."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmvlm.registry import SCORERS
from mmvlm.utils.files import write_atomic

from .benchmark import Benchmark
from .functional.intervals import bootstrap_interval
from .scorers.base import Scorer, Totals
from .store import Answers, lines

SCORED, RESULTS = "scored.jsonl", "results.json"


@dataclass
class Scored:
    """A scored benchmark.

    Args:
        row (dict): of the results.
        verdicts (list[dict]): per answer, with its ``uid``.
        totals (Totals | None): None where the answers are hidden.
    """

    row: dict[str, Any]
    verdicts: list[dict[str, Any]]
    totals: Totals | None = None


def score(
    benchmark: Benchmark,
    answers: Answers,
    *,
    scorer: Scorer | None = None,
    draws: int = 10_000,
    seed: int = 0,
    facts: dict[str, Any] | None = None,
) -> Scored:
    """Score the answers to a benchmark.

    Args:
        benchmark (Benchmark): says scorer and headline.
        answers (Answers): in the order of the set; what is missing is left out, and
            the row says so.
        scorer (Scorer | None): under another rule; None builds the benchmark's.
        draws (int): resamples of the interval.
        seed (int): of the resamples.
        facts (dict | None): of the run, which the row takes over.

    Raises:
        KeyError: when the scorer gives no such headline.
    """
    scorer = SCORERS.build(dict(benchmark.scorer)) if scorer is None else scorer
    row = _head(benchmark, answers, scorer) | (facts or {})
    records = [_with_reference(record) for record in answers.records]
    if all(one["reference"] is None for one in records):
        row["note"] = _noted(row, "the set hides its answers")
        return Scored(row, [])
    verdicts = [scorer.verdict(record) for record in records]
    totals = scorer.totals(records, verdicts)
    if benchmark.headline not in totals.metrics:
        raise KeyError(
            f"{benchmark.name}: {type(scorer).__name__} gives no "
            f"'{benchmark.headline}', which is to be the headline; it gives "
            f"{sorted(totals.metrics)[:12]}."
        )
    row.update(
        score=float(totals.metrics[benchmark.headline]),
        strict=_percent(verdicts, "strict"),
        lenient=_percent(verdicts, "lenient"),
        unparsed=sum(not (one["parsed"] or one["failed"]) for one in verdicts),
        clusters=len(set(totals.clusters.tolist())),
        metrics={name: float(value) for name, value in totals.metrics.items()},
        note=_noted(row, *totals.notes.values()),
    )
    if benchmark.headline == scorer.headline:
        found = bootstrap_interval(
            *(totals.units, totals.clusters, totals.statistic), draws=draws, seed=seed
        )
        row["interval"] = [found.low, found.high]
        row["standard_error"] = found.standard_error
    uids = [dict(uid=record["uid"]) for record in records]
    scored = [uid | one for uid, one in zip(uids, verdicts, strict=True)]
    return Scored(row, scored, totals)


def _with_reference(record: dict[str, Any]) -> dict[str, Any]:
    """Give a question that could not even be read something to be wrong about."""
    lost = record.get("finish") == "error" and record["reference"] is None
    return {**record, "reference": ""} if lost else record


def _head(benchmark: Benchmark, answers: Answers, scorer: Scorer) -> dict[str, Any]:
    answered = len(answers.records)
    return dict(
        benchmark=benchmark.name,
        title=benchmark.title,
        split=benchmark.split,
        variant=benchmark.variant,
        scorer=type(scorer).__name__,
        rule=scorer.rule,
        headline=benchmark.headline,
        score=None,
        interval=None,
        standard_error=None,
        strict=None,
        lenient=None,
        expected=answers.expected,
        answered=answered,
        failed=sum(one.get("finish") == "error" for one in answers.records),
        cut=sum(one.get("finish") == "length" for one in answers.records),
        unparsed=None,
        published_items=benchmark.num_items,
        ceiling=benchmark.ceiling,
        chance=benchmark.chance,
        data_version=benchmark.data_version,
        judge=None,
        note=_notes(benchmark, answers),
        counts={
            key: len(value) if isinstance(value, list) else value
            for key, value in asdict(answers).items()
            if key != "records"
        },
        metrics={},
    )


def _notes(benchmark: Benchmark, answers: Answers) -> str:
    notes = [f"partial: {answers.complaint}"] if answers.complaint else []
    if benchmark.num_items not in (None, answers.expected):
        notes.append(
            f"{answers.expected} items, the published set has {benchmark.num_items}"
        )
    return "; ".join(notes)


def _noted(row: dict[str, Any], *notes: str) -> str:
    return "; ".join([note for note in (row["note"], *notes) if note])


def _percent(verdicts: list[dict[str, Any]], key: str) -> float:
    return 100.0 * sum(float(one[key]) for one in verdicts) / max(1, len(verdicts))


def write_scored(folder: str | os.PathLike, scored: Scored) -> None:
    """Write ``scored.jsonl`` and ``results.json`` of a benchmark."""
    write_atomic(Path(folder, SCORED), lines(scored.verdicts))
    write_atomic(Path(folder, RESULTS), json.dumps(scored.row, indent=1) + "\n")
