"""Two runs over the same questions: what differs, and how sure that is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmvlm.registry import SCORERS

from .benchmark import Benchmark
from .functional.intervals import holm, mcnemar, paired_interval, smallest_detectable
from .judging import add_replies, own_replies
from .scorers.base import mean_percent
from .scorers.judged import JudgedScorer
from .store import (
    AnswerReader,
    benchmark_folders,
    match,
    read_benchmark,
    read_expected,
)


@dataclass
class Flip:
    """A question that the runs answer with different success.

    Args:
        first, second (dict): the answer records.
        before, after (float): their scores, 0-1.
    """

    first: dict[str, Any]
    second: dict[str, Any]
    before: float
    after: float


@dataclass
class Comparison:
    """What two runs score on one benchmark.

    Args:
        benchmark (Benchmark): the same in both.
        before, after (float): headlines.
        difference (float): ``after - before``.
        low, high (float): 95 % interval of it; nan where the items are too few.
        p_value (float): of no difference, paired cluster bootstrap.
        adjusted (float): p-value among all benchmarks of the runs, by Holm.
        mcnemar (float | None): exact p-value of right and wrong answers, of groups
            where the headline counts them; None where scores are not 0 or 1.
        detectable (float): smallest difference that this set shows in 4 of 5 cases.
        items (int): questions.
        flips (list[Flip]): gains first.
        image_root (str): where the images lie.
        data_root (str): where the benchmark's files lie; empty where it is not known.
    """

    benchmark: Benchmark
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float
    mcnemar: float | None
    detectable: float
    items: int
    adjusted: float = 1.0
    flips: list[Flip] = field(default_factory=list)
    image_root: str = ""
    data_root: str = ""


def compare_runs(
    first: str | os.PathLike,
    second: str | os.PathLike,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> list[Comparison]:
    """Compare two runs on the benchmarks that both have answered.

    Args:
        first (str | PathLike): folder of a run.
        second (str | PathLike): of another one.
        draws (int): resamples.
        seed (int): of the resamples.

    Raises:
        ValueError: when the runs share no benchmark, differ in their questions or
            judges, or hold answers that were not judged.
    """
    folders = [benchmark_folders(run) for run in (first, second)]
    shared = [name for name in folders[0] if name in folders[1]]
    if not shared:
        raise ValueError(
            f"the runs share no benchmark: {list(folders[0])} and {list(folders[1])}."
        )
    found = [_compared(*(one[name] for one in folders), draws, seed) for name in shared]
    for one, adjusted in zip(found, holm([o.p_value for o in found]), strict=True):
        one.adjusted = adjusted
    return found


def _compared(first: Path, second: Path, draws: int, seed: int) -> Comparison:
    benchmark, facts = read_benchmark(first)
    other = read_benchmark(second)[0]
    if (benchmark.scorer, benchmark.headline) != (other.scorer, other.headline):
        raise ValueError(
            f"{benchmark.name}: the runs are scored by {benchmark.scorer} and "
            f"{other.scorer}; rescore one of them."
        )
    scorer = SCORERS.build(dict(benchmark.scorer))
    records = [_complete(folder, benchmark.name) for folder in (first, second)]
    if isinstance(scorer, JudgedScorer):
        _add_judgements(scorer, benchmark.name, (first, second), records)
    if [r["uid"] for r in records[0]] != [r["uid"] for r in records[1]]:
        raise ValueError(
            f"{benchmark.name}: the runs answer {len(records[0])} and "
            f"{len(records[1])} questions that are not the same; compare runs over the "
            "same items."
        )
    verdicts = [[scorer.verdict(record) for record in own] for own in records]
    if isinstance(scorer, JudgedScorer):
        records, verdicts = _rated_in_both(scorer, records, verdicts)
    totals = [scorer.totals(*own) for own in zip(records, verdicts, strict=True)]
    paired = paired_interval(
        *(totals[0].units, totals[1].units, totals[0].clusters, totals[0].statistic),
        draws=draws,
        seed=seed,
    )
    scores = [np.array([float(v["score"]) for v in own]) for own in verdicts]
    # Of a headline that counts groups, such as MMBench's, groups are what is right.
    groups = all(
        one.statistic is mean_percent and (one.units[:, 1] == 1).all() for one in totals
    )
    whole = [one.units[:, 0] for one in totals] if groups else scores
    plain = np.isin(np.concatenate(whole), (0.0, 1.0)).all()
    before, after = (float(one.metrics[benchmark.headline]) for one in totals)
    return Comparison(
        benchmark,
        before,
        after,
        paired.value,
        paired.low,
        paired.high,
        float(paired.p_value),
        mcnemar(whole[0] == 1, whole[1] == 1) if plain else None,
        smallest_detectable(paired.standard_error),
        len(records[0]),
        flips=_flips(records, scores),
        image_root=facts.get("image_root", ""),
        data_root=facts.get("data_root", ""),
    )


def _complete(folder: Path, name: str) -> list[dict[str, Any]]:
    answers = match(list(AnswerReader(folder).new()), read_expected(folder))
    answers.check(name)
    return answers.records


def _add_judgements(
    scorer: JudgedScorer,
    name: str,
    folders: Sequence[Path],
    records: Sequence[Sequence[dict[str, Any]]],
) -> None:
    """Put what judges said into the records of both runs.

    Raises:
        ValueError: when answers were not judged, or by two judges.
    """
    judges = []
    for folder, own in zip(folders, records, strict=True):
        replies, judge = own_replies(folder)
        add_replies(own, replies or {})
        judges.append(judge)
        if any(scorer.needs_judge(r) and "judge_replies" not in r for r in own):
            raise ValueError(
                f"{name}: answers in '{folder}' are not judged; run tools/test.py with "
                "--judge first."
            )
    if None not in judges and len(set(judges)) > 1:
        raise ValueError(
            f"{name}: scores of two judges do not compare: {' and '.join(judges)}."
        )


def _rated_in_both(
    scorer: JudgedScorer, *pairs: Sequence[Sequence[dict[str, Any]]]
) -> list[list[list[dict[str, Any]]]]:
    """Leave out what has no rating in one of the runs, of records and verdicts."""
    rated = [set(scorer.rated_rows(own)) for own in pairs[1]]
    kept = sorted(rated[0] & rated[1])
    return [[[own[row] for row in kept] for own in pair] for pair in pairs]


def _flips(
    records: Sequence[Sequence[dict[str, Any]]], scores: Sequence[np.ndarray]
) -> list[Flip]:
    change = scores[1] - scores[0]
    order = np.argsort(-change, kind="stable")
    return [
        Flip(records[0][n], records[1][n], float(scores[0][n]), float(scores[1][n]))
        for n in order.tolist()
        if change[n]
    ]
