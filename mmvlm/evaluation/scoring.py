"""From answers to a row of results: verdicts, totals, the interval of the headline."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mmvlm.registry import SCORERS
from mmvlm.utils.files import write_atomic

from .benchmark import Benchmark
from .functional.intervals import bootstrap_interval
from .functional.submissions import WRITERS
from .judging import REQUESTS, judge_requests
from .scorers.base import Scorer, Totals
from .scorers.judged import JudgedScorer
from .store import Answers, lines

SCORED, RESULTS = "scored.jsonl", "results.json"


@dataclass
class Scored:
    """A scored benchmark.

    Args:
        row (dict): of the results.
        verdicts (list[dict]): per answer, with its ``uid``.
        totals (Totals | None): None where the answers are hidden, or not judged.
        files (dict): name to text or bytes of what goes to servers and judges.
    """

    row: dict[str, Any]
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    totals: Totals | None = None
    files: dict[str, str | bytes] = field(default_factory=dict)


def rule_of(benchmark: Benchmark) -> str:
    """Return the rule of a benchmark's scorer; none of its files is read."""
    scorer = benchmark.scorer
    return SCORERS.get(scorer["type"]).known_rule(scorer.get("rule"))


def under_rule(benchmark: Benchmark, rule: str | None) -> Benchmark:
    """Return a benchmark under another rule of its scorer; None changes nothing.

    Raises:
        ValueError: naming the benchmark, when its scorer has no such rule.
    """
    if rule is None:
        return benchmark
    changed = replace(benchmark, scorer={**benchmark.scorer, "rule": rule})
    try:
        rule_of(changed)
    except ValueError as error:
        raise ValueError(f"{benchmark.name}: {error}") from error
    return changed


def score(
    benchmark: Benchmark,
    answers: Answers,
    *,
    scorer: Scorer | None = None,
    judge: str | None = None,
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
        judge (str | None): whose replies the records hold.
        draws (int): resamples of the interval.
        seed (int): of the resamples.
        facts (dict | None): of the run, which the row takes over.

    Raises:
        KeyError: when the scorer gives no such headline.
    """
    scorer = SCORERS.build(dict(benchmark.scorer)) if scorer is None else scorer
    row = _head(benchmark, answers, scorer) | (facts or {})
    if (flips := row.get("flips")) and flips["differ"]:
        differ = "{differ} of {asked} answers differ when asked alone".format(**flips)
        row["note"] = _noted(row, differ)
    try:
        files = submission_files(benchmark, answers.records)
    except ImportError as error:  # an extra that only the upload needs
        files = {}
        row["note"] = _noted(row, f"no submission: {error}")
    records = [_with_reference(record) for record in answers.records]
    if all(one["reference"] is None for one in records):
        row["note"] = _noted(row, "the set hides its answers")
        return Scored(row, files=files)
    if isinstance(scorer, JudgedScorer):
        needing = [one for one in records if scorer.needs_judge(one)]
        left = sum("judge_replies" not in one for one in needing)
        if left:
            row["note"] = _noted(row, f"{left} answers not judged, see {REQUESTS}")
            return Scored(row, files=files | judge_requests(scorer, records))
        row["judge"] = judge
    verdicts = [scorer.verdict(record) for record in records]
    try:
        totals = scorer.totals(records, verdicts)
    except ValueError as error:
        if not (answers.complaint or {"limit", "only"} & set(facts or {})):
            raise
        # Some of a set may lack a whole group that the total weighs.
        row["note"] = _noted(row, f"no total of so few: {error}")
        return Scored(row, files=files)
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
        interval = _interval(totals, draws, seed)
        row.update(interval)
        if not interval:
            row["note"] = _noted(row, "no interval: too few images or groups")
        if (chance := scorer.chance(records, verdicts)) is not None:
            row["chance"] = chance
    uids = [dict(uid=record["uid"]) for record in records]
    scored = [uid | one for uid, one in zip(uids, verdicts, strict=True)]
    return Scored(row, scored, totals, files)


def _interval(totals: Totals, draws: int, seed: int) -> dict[str, Any]:
    parts = totals.units, totals.clusters, totals.statistic
    found = bootstrap_interval(*parts, draws=draws, seed=seed)
    if math.isnan(found.low):
        return {}
    return dict(interval=[found.low, found.high], standard_error=found.standard_error)


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


def submission_files(
    benchmark: Benchmark, records: Sequence[dict[str, Any]]
) -> dict[str, str | bytes]:
    """Return name to content of the files that a test server takes, if there is one."""
    if benchmark.submission is None:
        return {}
    options = dict(benchmark.submission)
    found = WRITERS[options.pop("type")](records, **options)
    return {f"submission/{name}": text for name, text in found.items()}


def write_scored(folder: str | os.PathLike, scored: Scored) -> None:
    """Write ``scored.jsonl``, ``results.json`` and other files of a benchmark."""
    for name, text in scored.files.items():
        write_atomic(Path(folder, name), text)
    write_atomic(Path(folder, SCORED), lines(scored.verdicts))
    write_atomic(Path(folder, RESULTS), json.dumps(scored.row, indent=1) + "\n")
