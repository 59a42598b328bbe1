"""Benchmark of scoring: ten-answer verdicts, and the interval of their mean.

As many items as VQAv2's validation set, in as many images. The plain way normalises
every answer anew and leaves annotators out one by one, as the official script does;
its scores are compared first. Time is CPU time of one process.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mmvlm.evaluation.functional import vqa
from mmvlm.evaluation.functional.intervals import bootstrap_interval
from mmvlm.registry import SCORERS

#: What is measured -> most seconds.
MUSTS = {"scores": 60.0, "interval": 10.0}
_WORDS = (
    "yes no the a dog cats red blue-green two 3 12,000 man's t-shirt dont playing "
    "left. street, what? tennis woman riding coca-cola"
).split()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py score``."""
    parser.add_argument("--items", type=int, default=214_354)
    parser.add_argument("--images", type=int, default=40_504)
    parser.add_argument("--draws", type=int, default=10_000)


def make_records(items: int, images: int) -> list[dict]:
    """Return answer records whose annotators agree on most items."""
    generator = random.Random(0)

    def answer() -> str:
        return " ".join(generator.choices(_WORDS, k=generator.choice((1, 1, 1, 2, 3))))

    records = []
    for index in range(items):
        usual = answer()
        answers = [usual if generator.random() < 0.6 else answer() for _ in range(10)]
        records.append(
            dict(
                uid=str(index),
                text=usual if generator.random() < 0.5 else answer(),
                finish="stop",
                reference=answers,
                meta=dict(answer_type=generator.choice(("yes/no", "other"))),
                cluster=index * images // items,
            )
        )
    return records


def plain_score(text: str, answers: list[str]) -> float:
    """Score one item as the official script does, nothing kept between items."""
    normalise = vqa.normalise_vqa.__wrapped__
    text, answers = vqa.clean_blanks(text), [vqa.clean_blanks(one) for one in answers]
    if len(set(answers)) > 1:
        text, answers = normalise(text), [normalise(one) for one in answers]
    found = []
    for place in range(len(answers)):
        others = answers[:place] + answers[place + 1 :]
        found.append(min(1.0, sum(one == text for one in others) / 3))
    return sum(found) / len(found)


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare all scores, then yield one row per measurement.

    Raises:
        RuntimeError: when the scores of the two ways differ.
    """
    records = make_records(args.items, args.images)
    scorer = SCORERS.build(dict(type="TenAnswerScorer", rule="vqa"))

    def ours() -> tuple[list[dict], Any]:
        verdicts = [scorer.verdict(record) for record in records]
        return verdicts, scorer.totals(records, verdicts)

    plain, expected = _seconds(
        lambda: [plain_score(one["text"], one["reference"]) for one in records]
    )
    spent, (verdicts, totals) = _seconds(ours)
    if not np.allclose([v["score"] for v in verdicts], expected, atol=1e-12):
        raise RuntimeError("the scorer and the plain way disagree.")
    found = dict(scores=(spent, plain))
    parts = totals.units, totals.clusters, totals.statistic
    spent, interval = _seconds(lambda: bootstrap_interval(*parts, draws=args.draws))
    found["interval"] = (spent, None)
    for name, (seconds, baseline) in found.items():
        yield dict(
            benchmark="score",
            variant=name,
            seconds=round(seconds, 2),
            must=MUSTS[name],
            plain_seconds=baseline and round(baseline, 2),
            items=args.items,
            clusters=args.images,
            draws=args.draws,
            value=round(interval.value, 4),
            low=round(interval.low, 4),
            high=round(interval.high, 4),
        )


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, seconds beside the musts."""
    first = rows[0]
    lines = [
        f"{first['items']} items of ten answers in {first['clusters']} images, "
        f"{first['draws']} draws: {first['value']} [{first['low']}, {first['high']}]",
        "what       seconds  at most  plain way",
    ]
    for row in rows:
        plain = row["plain_seconds"]
        lines.append(
            f"{row['variant']:9} {row['seconds']:8.2f} {row['must']:8.0f}  "
            f"{'-' if plain is None else f'{plain:.2f}'}"
        )
    return lines
