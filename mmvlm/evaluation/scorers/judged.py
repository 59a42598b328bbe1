"""Judged benchmarks: LLaVA-Bench, Ferret-Bench, MM-Vet and judged multiple choice.

A record's ``judge_replies`` holds one raw reply per run, None where the judge failed.
That is no score: the item is left out of the means and counted. An answer that failed
itself gets the lowest rating.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmvlm.evaluation.functional import choices, judges
from mmvlm.evaluation.scorers.base import (
    Record,
    Scorer,
    Totals,
    Verdict,
    clusters_of,
    mean_percent,
    rows_by,
    with_ones,
)
from mmvlm.evaluation.scorers.multiple_choice import ChoiceScorer
from mmvlm.registry import SCORERS


class JudgedScorer(Scorer):
    """A scorer whose items a judge rates; ``messages`` is what it is asked."""

    @abstractmethod
    def messages(self, record: Record, attempt: int = 0) -> list[dict[str, str]]:
        """Return the chat messages of an item.

        Args:
            record (dict): answer record.
            attempt (int): 0 first; more after a reply that could not be read.
        """

    def judge_settings(self, attempt: int = 0) -> dict[str, Any]:
        """Return what a request says besides its messages, see :meth:`messages`."""
        return dict(temperature=0.0)

    @abstractmethod
    def is_readable(self, reply: str) -> bool:
        """Tell whether a reply holds a rating; else the judge is asked again."""

    def needs_judge(self, record: Record) -> bool:
        """Tell whether the score of an answer hangs on a judge."""
        return record.get("finish") != "error"

    @staticmethod
    def replies(record: Record) -> list[str]:
        """Return the replies that arrived."""
        return [reply for reply in record.get("judge_replies") or () if reply]

    def rated_rows(self, verdicts: Sequence[Verdict]) -> list[int]:
        """Return the rows that count: with a rating, or an answer that failed."""
        return [i for i, v in enumerate(verdicts) if v["failed"] or v["parsed"]]

    def rated(
        self, verdicts: Sequence[Verdict], lowest: list[float]
    ) -> tuple[list[int], list[list[float]], dict[str, float]]:
        """Return rows with ratings, their ratings, and the count of rows without.

        An answer that failed is rated ``lowest``.
        """
        rows = self.rated_rows(verdicts)
        ratings = [
            lowest if verdicts[i]["failed"] else verdicts[i]["prediction"] for i in rows
        ]
        return rows, ratings, {"judge_failed": float(len(verdicts) - len(rows))}


@SCORERS.register_module()
class ReviewScorer(JudgedScorer):
    """LLaVA-Bench and Ferret-Bench: rating relative to the reference answer.

    ``reference`` is the reference answer; ``meta`` holds ``category`` and ``context``
    (text or list of texts). Headline ``all``: 100 x candidate / reference; an item of
    several runs counts with its mean ratings. Rules: ``first_line`` (just two numbers)
    and ``tolerant`` (else the only two numbers of the line; such replies are counted).

    Paper: Liu et al., "Visual Instruction Tuning", NeurIPS 2023, arXiv 2304.08485.

    Args:
        rule (str | None): see above.
        instructions (Mapping[str, str] | str | None): category to the official
            instruction, or LLaVA's file of them (``llava/eval/table/rule.json``);
            needed for numbers that compare with published ones. Default: own words.
        ferret (bool): clean answers and extend instructions as Ferret-Bench does.
    """

    rules = ("first_line", "tolerant")
    headline = "all"

    def __init__(
        self,
        rule: str | None = None,
        *,
        instructions: Mapping[str, str] | str | None = None,
        ferret: bool = False,
    ) -> None:
        super().__init__(rule)
        if isinstance(instructions, str):
            rules = json.loads(Path(instructions).read_text(encoding="utf-8"))
            instructions = {name: rule["prompt"] for name, rule in rules.items()}
        self.instructions, self.ferret = instructions, ferret

    def messages(self, record: Record, attempt: int = 0) -> list[dict[str, str]]:
        """See :meth:`JudgedScorer.messages`; asking again changes nothing."""
        meta, answer = record["meta"], record["text"]
        category, context = str(meta.get("category", "")), meta.get("context", "")
        if self.ferret:
            answer = judges.ferret_answer(answer, category)
        instruction = None
        if self.instructions is not None:
            instruction = self.instructions[category]
        return judges.review_messages(
            record["question"],
            context if isinstance(context, str) else "\n".join(context),
            record["reference"],
            answer,
            category=category,
            instruction=instruction,
        )

    def judge_settings(self, attempt: int = 0) -> dict[str, Any]:
        """See :meth:`JudgedScorer.judge_settings`."""
        return dict(temperature=0.2, max_tokens=1024)

    def is_readable(self, reply: str) -> bool:
        """See :meth:`JudgedScorer.is_readable`."""
        return self._read(reply)[0] is not None

    def _read(self, reply: str) -> tuple[tuple[float, float] | None, bool]:
        """Return the ratings and whether the tolerant pass was needed."""
        pair = judges.read_pair(reply)
        if pair is None and self.rule == "tolerant":
            return judges.read_pair_loosely(reply), True
        # -1 -1 is how the official files write a failed call; nan is no rating either.
        is_rating = pair is not None and all(0 <= value <= 10 for value in pair)
        return (pair if is_rating else None), False

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; ``score`` is candidate / 10."""
        found = [self._read(reply) for reply in self.replies(record)]
        pairs = [pair for pair, _ in found if pair is not None]
        if not pairs:
            return dict(score=0.0, parsed=False, prediction=None)
        pair = np.mean(pairs, axis=0).tolist()
        return dict(
            score=min(1.0, pair[1] / 10),
            parsed=True,
            prediction=pair,
            tolerant=any(loose for _, loose in found),
        )

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`; a category's metrics carry its short name."""
        rows, ratings, metrics = self.rated(verdicts, lowest=[10.0, 0.0])
        metrics["tolerant"] = float(sum(bool(v.get("tolerant")) for v in verdicts))
        kept = [records[i] for i in rows]
        units = np.array([[*pair, 1.0] for pair in ratings]).reshape(-1, 3)
        groups = {"all": list(range(len(rows))), **rows_by(kept, "category")}
        suffixes = ("", "/reference", "/candidate")
        for name, members in groups.items():
            row = judges.pair_shares(units[members].sum(axis=0))
            name = name.removeprefix("llava_bench_")
            for suffix, value in zip(suffixes, row, strict=True):
                metrics[f"{name}{suffix}"] = float(value)

        def statistic(sums: np.ndarray) -> np.ndarray:
            return judges.pair_shares(sums)[..., 0]

        return Totals(metrics, units, clusters_of(kept), statistic)


@SCORERS.register_module()
class MMVetScorer(JudgedScorer):
    """MM-Vet: mean grade in percent, by capability and by set of capabilities.

    ``reference`` is the truth, with ``<AND>`` and ``<OR>``; ``meta['capability']`` a
    list.
    Several runs give a mean and a standard deviation of the totals.

    Paper: Yu et al., "MM-Vet", ICML 2024, arXiv 2308.02490.
    """

    headline = "total"

    def messages(self, record: Record, attempt: int = 0) -> list[dict[str, str]]:
        """See :meth:`JudgedScorer.messages`; asked again, it says the form."""
        found = judges.grading_messages(
            record["question"], record["reference"], record["text"]
        )
        if attempt:
            found[0]["content"] += "\nWrite the number alone, from 0.0 to 1.0."
        return found

    def judge_settings(self, attempt: int = 0) -> dict[str, Any]:
        """See :meth:`JudgedScorer.judge_settings`; asked again, it may vary."""
        return dict(temperature=min(0.5 * attempt, 2.0), max_tokens=3)

    def is_readable(self, reply: str) -> bool:
        """See :meth:`JudgedScorer.is_readable`."""
        return judges.read_grade(reply) is not None

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; ``prediction`` lists the grades of the runs."""
        read = [judges.read_grade(reply) for reply in self.replies(record)]
        grades = [grade for grade in read if grade is not None]
        mean = float(np.mean(grades)) if grades else 0.0
        return dict(score=mean, parsed=bool(grades), prediction=grades)

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`."""
        num_runs = max((len(v["prediction"] or ()) for v in verdicts), default=0)
        rows, grades, metrics = self.rated(verdicts, lowest=[0.0] * max(1, num_runs))
        kept = [records[i] for i in rows]
        scores = np.array([np.mean(runs) for runs in grades], dtype=np.float64)
        tables = judges.capability_table(
            {str(i): r["meta"].get("capability", ()) for i, r in enumerate(kept)},
            {str(i): score for i, score in enumerate(scores)},
        )
        metrics.update(tables["capability"])
        for name, value in tables["integration"].items():
            metrics[f"integration/{name}"] = value
        num_runs = min(map(len, grades), default=0)
        runs = [float(np.mean([g[run] for g in grades])) for run in range(num_runs)]
        metrics["std"] = 100 * float(np.std(runs)) if runs else 0.0
        metrics[self.headline] = float(mean_percent(with_ones(scores).sum(axis=0)))
        return Totals(metrics, with_ones(scores), clusters_of(kept), mean_percent)


@SCORERS.register_module()
class JudgedChoiceScorer(ChoiceScorer, JudgedScorer):
    """Multiple choice where a judge reads what exact matching leaves open.

    An answer that neither decides is wrong and counts as unparsed; nothing is drawn at
    random. See :class:`ChoiceScorer`.
    """

    rules = ("judge",)

    def needs_judge(self, record: Record) -> bool:
        """See :meth:`JudgedScorer.needs_judge`; most answers need none."""
        options = choices.lettered(record["meta"]["options"])
        return (
            super().needs_judge(record)
            and choices.read_exact_matching(record["text"], options) is None
        )

    def messages(self, record: Record, attempt: int = 0) -> list[dict[str, str]]:
        """See :meth:`JudgedScorer.messages`; asking again changes nothing."""
        options = choices.lettered(record["meta"]["options"])
        return judges.matching_messages(record["question"], options, record["text"])

    def is_readable(self, reply: str) -> bool:
        """See :meth:`JudgedScorer.is_readable`."""
        return choices.read_letter(reply, dict.fromkeys("ABCDEFGH", "")) is not None

    def rated_rows(self, verdicts: Sequence[Verdict]) -> list[int]:
        """See :meth:`JudgedScorer.rated_rows`; what nobody decides is wrong."""
        return list(range(len(verdicts)))

    def read(self, record: Record, options: Mapping[str, str]) -> str | None:
        """See :meth:`ChoiceScorer.read`."""
        matched = choices.read_exact_matching(record["text"], options)
        read = (choices.read_letter(reply, options) for reply in self.replies(record))
        return matched or next(filter(None, read), None)
