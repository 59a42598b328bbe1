"""Text in images: OCRBench, DocVQA, InfoVQA and ChartQA."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.evaluation.functional import reading
from mmvlm.evaluation.functional.intervals import ratio
from mmvlm.evaluation.scorers.base import (
    Record,
    ShortAnswerScorer,
    Totals,
    Verdict,
    column,
    rows_by,
)
from mmvlm.registry import SCORERS


def _answers(record: Record) -> list[str]:
    answers = record["reference"]
    return [answers] if isinstance(answers, str) else list(answers)


@SCORERS.register_module()
class OCRBenchScorer(ShortAnswerScorer):
    """OCRBench: number of answers that contain a reference, of 1,000.

    ``reference`` is a text or a list; ``meta`` holds ``type`` and ``dataset_name``.

    Paper: Liu et al., "OCRBench", 2023, arXiv 2305.07895.
    """

    headline = "final"
    group_keys = ("dataset_name",)

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; ``strict`` is equality but for case."""
        text, answers = record["text"], _answers(record)
        hit = reading.ocrbench_hit(text, answers, record["meta"]["dataset_name"])
        same = text.strip().lower() in [answer.strip().lower() for answer in answers]
        return dict(
            score=float(hit),
            strict=float(same),
            parsed=bool(text.strip()),
            prediction=text,
        )

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`; types and parts are counts, datasets percent."""
        totals = super().totals(records, verdicts)
        scores, size = column(verdicts, "score"), len(records)
        types = {
            name: float(scores[rows].sum())
            for name, rows in rows_by(records, "type").items()
        }
        totals.metrics.update(types)
        for part, names in reading.OCRBENCH_PARTS.items():
            totals.metrics[part] = sum(types.get(name, 0.0) for name in names)
        totals.metrics[self.headline] = float(scores.sum())
        totals.statistic = lambda sums: size * ratio(sums[..., 0], sums[..., 1])
        return totals


@SCORERS.register_module()
class ANLSScorer(ShortAnswerScorer):
    """DocVQA and InfoVQA: average normalised Levenshtein similarity, in percent.

    ``reference`` is a list of answers. ``strict`` is equality but for case and blanks,
    ``lenient`` drops final periods.

    Paper: Biten et al., "Scene Text Visual Question Answering", ICCV 2019, arXiv
    1905.13648.
    """

    headline = "anls"
    group_keys = ("answer_type", "question_types")

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`."""
        text, answers = record["text"], _answers(record)
        score = reading.anls(text, answers)
        lenient = reading.anls(text.strip().rstrip("."), answers)
        words = text.lower().split()
        return dict(
            score=score,
            strict=float(any(words == answer.lower().split() for answer in answers)),
            lenient=max(score, lenient),
            parsed=bool(words),
            prediction=text,
        )


@SCORERS.register_module()
class RelaxedAccuracyScorer(ShortAnswerScorer):
    """ChartQA: numbers within 5 % of the answer, texts equal but for case.

    ``reference`` is a text or a list; ``meta['category']`` names the human and the
    augmented part. ``strict`` is equality, ``lenient`` drops final periods.

    Paper: Masry et al., "ChartQA", ACL 2022, arXiv 2203.10244.
    """

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`."""
        text = record["text"].strip()
        answers = [answer.strip() for answer in _answers(record)]
        right = any(reading.relaxed_match(text, answer) for answer in answers)
        loose = any(reading.relaxed_match(text.rstrip("."), one) for one in answers)
        return dict(
            score=float(right),
            strict=float(
                text.lower() in [answer.strip().lower() for answer in answers]
            ),
            lenient=float(right or loose),
            parsed=bool(text),
            prediction=text,
        )
