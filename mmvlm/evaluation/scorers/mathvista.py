"""MathVista: a judge extracts answers, which are compared as texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mmvlm.evaluation.functional import mathvista
from mmvlm.registry import SCORERS

from .base import (
    Record,
    Totals,
    Verdict,
    clusters_of,
    mean_percent,
    percent,
    rows_by,
    with_ones,
)
from .judged import JudgedScorer


@SCORERS.register_module()
class MathVistaScorer(JudgedScorer):
    """MathVista: share of right answers in percent, by task, skill and so on.

    ``reference`` is the answer as text; ``meta`` holds ``options`` (list, None where
    the answer is free), ``answer_type``, ``precision`` and the groups. A judge extracts
    the answer of a reply that is more than an option or a number; one that it does
    not find is no score. Several runs of a judge count with their mean.

    Paper: Lu et al., "MathVista", ICLR 2024, arXiv 2310.02255.
    """

    #: Keys of ``meta`` by which the share is given; skills are several.
    group_keys: ClassVar[tuple[str, ...]] = (
        *("question_type", "answer_type", "language", "source", "category"),
        *("task", "context", "grade"),
    )

    @staticmethod
    def _bare(record: Record) -> str | None:
        meta = record["meta"]
        return mathvista.bare_answer(
            record["text"], meta.get("options"), meta["answer_type"]
        )

    def needs_judge(self, record: Record) -> bool:
        """See :meth:`JudgedScorer.needs_judge`; bare answers need none."""
        return super().needs_judge(record) and self._bare(record) is None

    def messages(self, record: Record, attempt: int = 0) -> list[dict[str, str]]:
        """See :meth:`JudgedScorer.messages`; asking again changes nothing."""
        return mathvista.extraction_messages(record["question"], record["text"])

    def judge_settings(self, attempt: int = 0) -> dict[str, Any]:
        """See :meth:`JudgedScorer.judge_settings`."""
        return dict(temperature=0.0, max_tokens=128)

    def is_readable(self, reply: str) -> bool:
        """See :meth:`JudgedScorer.is_readable`."""
        return bool(reply.strip())

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; ``prediction`` lists the answers of the runs."""
        meta, bare = record["meta"], self._bare(record)
        found = [one for one in self.replies(record) if self.is_readable(one)]
        settings = (meta.get("options"), meta["answer_type"], meta.get("precision"))
        answers = [
            mathvista.normalised_answer(one, *settings)
            for one in (found if bare is None else [bare])
        ]
        hits = [answer == record["reference"] for answer in answers]
        return dict(
            score=float(np.mean(hits)) if hits else 0.0,
            parsed=bool(answers),
            prediction=answers,
        )

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`."""
        rows, _, metrics = self.rated(verdicts, lowest=[0.0])
        kept = [records[row] for row in rows]
        scores = np.array([verdicts[row]["score"] for row in rows], dtype=np.float64)
        for key in self.group_keys:
            for value, members in rows_by(kept, key).items():
                metrics[f"{key}/{value}"] = percent(scores[members])
        skills = [set(record["meta"].get("skills") or ()) for record in kept]
        for skill in sorted(set().union(*skills)):
            has = [skill in own for own in skills]
            metrics[f"skills/{skill}"] = percent(scores[np.array(has)])
        metrics[self.headline] = percent(scores)
        return Totals(metrics, with_ones(scores), clusters_of(kept), mean_percent)
