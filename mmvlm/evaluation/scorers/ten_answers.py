"""Ten-answer VQA: VQAv2, OK-VQA, TextVQA and VizWiz."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.evaluation.functional import vqa
from mmvlm.evaluation.scorers.base import (
    Record,
    ShortAnswerScorer,
    Totals,
    Verdict,
    unread_rows,
)
from mmvlm.registry import SCORERS

_RULES = {
    "vqa": vqa.score_vqa,
    "textvqa": vqa.score_both_sides,
    "vizwiz": vqa.score_vizwiz,
    "both_normalised": vqa.score_both_sides,
}


@SCORERS.register_module()
class TenAnswerScorer(ShortAnswerScorer):
    """Agreement with ten annotators, each left out once.

    ``reference`` is the list of answers; ``meta`` may hold ``answer_type``,
    ``question_type`` and VizWiz's ``answerable`` (0 or 1). Rules: ``vqa`` (VQAv2 and
    OK-VQA; no normalisation where all ten agree), ``textvqa`` (both sides always
    normalised), ``vizwiz`` (answers as they are) and ``both_normalised`` (VizWiz in
    lmms-eval). ``lenient`` normalises both sides.

    Paper: Goyal et al., "Making the V in VQA Matter", CVPR 2017, arXiv 1612.00837.
    """

    rules = tuple(_RULES)
    group_keys = ("answer_type", "question_type")

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; an empty text reads as no answer."""
        text, answers = record["text"], record["reference"]
        score, prediction = _RULES[self.rule](text, answers)
        lenient = max(score, vqa.score_both_sides(text, answers)[0])
        return dict(
            score=score,
            lenient=lenient,
            parsed=bool(text.strip()),
            prediction=prediction,
        )

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`MeanScorer.totals`; VizWiz adds the class "unanswerable"."""
        totals = super().totals(records, verdicts)
        known = [(r.get("meta") or {}).get("answerable") for r in records]
        # One that could not be read is missed, whatever it was.
        unread = unread_rows(records, verdicts, "answerable")
        for row in unread:
            known[row] = 0
        if len(unread) < len(records) and None not in known:
            predicted = [int(v["prediction"] != "unanswerable") for v in verdicts]
            precision, f1 = vqa.unanswerability(known, predicted)
            totals.metrics["unanswerable_ap"] = 100 * precision
            totals.metrics["unanswerable_f1"] = 100 * f1
        return totals
