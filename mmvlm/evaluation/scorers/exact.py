"""Exact answers: GQA, and any set of one short answer each."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.evaluation.functional.gqa import gqa_answer, gqa_scores
from mmvlm.evaluation.functional.text import exact_match, normalise
from mmvlm.evaluation.scorers.base import (
    Record,
    ShortAnswerScorer,
    Totals,
    Verdict,
    unread_rows,
)
from mmvlm.registry import SCORERS


@SCORERS.register_module()
class ExactScorer(ShortAnswerScorer):
    """Equality with one of the reference texts, case, blanks and final periods apart.

    ``reference`` is a text or a list of them.
    """

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`."""
        text, answers = record["text"], record["reference"]
        answers = [answers] if isinstance(answers, str) else answers
        right = any(exact_match(text, answer) for answer in answers)
        return dict(
            score=float(right), parsed=bool(text.strip()), prediction=normalise(text)
        )


@SCORERS.register_module()
class GQAScorer(ShortAnswerScorer):
    """GQA: exact accuracy, its breakdowns, consistency, validity and plausibility.

    ``reference`` is the answer; ``meta`` holds the question's entries of the official
    file: ``types``, ``groups``, ``semantic``, ``isBalanced`` (default true),
    ``entailed``, ``question`` without its wording, and ``valid`` and ``plausible``
    where choices are known. Without ``types`` the accuracy alone is given.
    Consistency needs an answer to every entailed question, else it is left out and the
    note says so.

    Paper: Hudson and Manning, "GQA", CVPR 2019, arXiv 1902.09506.
    """

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; ``lenient`` also drops case and outer blanks."""
        text, answer = record["text"], record["reference"]
        prediction = gqa_answer(text)
        right = prediction == answer
        return dict(
            score=float(right),
            lenient=float(right or exact_match(text, answer)),
            parsed=bool(text.strip()),
            prediction=prediction,
        )

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`; the headline counts balanced questions."""
        metas = [record.get("meta") or {} for record in records]
        balanced = [i for i, m in enumerate(metas) if m.get("isBalanced", True)]
        totals = super().totals(
            [records[i] for i in balanced], [verdicts[i] for i in balanced]
        )
        unread = unread_rows(records, verdicts, "types")
        if unread:
            totals.notes["breakdown"] = f"without {len(unread)} items not read"
            kept = sorted(set(range(len(records))).difference(unread))
            records, verdicts, metas = (
                [rows[row] for row in kept] for rows in (records, verdicts, metas)
            )
        if not records or not all("types" in meta for meta in metas):
            totals.notes["breakdown"] = "not computed: the records lack question types"
            return totals
        questions = {
            str(r["question_id"]): dict(
                m, question=m.get("question", r["question"]), answer=r["reference"]
            )
            for r, m in zip(records, metas, strict=True)
        }
        predictions = {
            key: verdict["prediction"]
            for key, verdict in zip(questions, verdicts, strict=True)
        }
        entailed = {e for m in metas for e in m.get("entailed", ())}
        consistent = bool(entailed) and entailed <= set(questions)
        if not consistent:
            totals.notes["consistency"] = "not computed: needs all entailed questions"
        known = all("valid" in m and "plausible" in m for m in metas)
        found = gqa_scores(
            questions, predictions, questions if known else None, consistent
        )
        for name, value in found.items():
            if isinstance(value, dict):
                rows = {f"{name}/{key}": row[0] for key, row in value.items()}
                totals.metrics.update(rows)
            elif name != "accuracy":
                totals.metrics[name] = value
        return totals
