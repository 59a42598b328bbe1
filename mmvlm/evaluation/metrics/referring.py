"""Boxes for referring expressions, scored as an official evaluation does."""

from __future__ import annotations

from typing import Any

from mmvlm.evaluation.functional.boxes import iou_curve
from mmvlm.evaluation.records import region_values
from mmvlm.evaluation.scorers.referring import ReferringScorer
from mmvlm.registry import METRICS

from .answers import AnswersMetric


@METRICS.register_module()
class ReferringMetric(AnswersMetric):
    """Share of expressions whose box is right.

    The numbers are ``acc`` (by the rule, strict), ``lenient``, ``miou`` and, of the
    mean of all boxes and of the best one, ``mean_box`` and ``upper_bound``, fractions
    0-1; ``acc@0.50`` to ``acc@0.95`` are the shares of boxes with at least that IoU
    (what a syntax rounds away shows at the upper end); ``tokens`` is the mean length
    of a reply, ``parse_failures`` and ``num`` count answers. All stand behind ``rec/``.

    Args:
        rule (str): a system's own evaluation, or ``regions`` for what the codec read;
            see :class:`ReferringScorer`.
        out_file (str | None): JSON lines of all answers with boxes and judgement,
            enough to score and draw them again; None writes none.
        **kwargs: see :class:`AnswersMetric`.
    """

    default_prefix = "rec"

    def __init__(
        self, rule: str = "regions", out_file: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(out_file, **kwargs)
        self.scorer = ReferringScorer(rule)

    def read_meta(self, sample: dict) -> dict[str, Any]:
        """Return the true box, the boxes of the reply, and the image's size."""
        truth = sample.get("gt_boxes")
        if truth is None or len(truth) != 1:
            raise KeyError(
                f"ReferringMetric: sample '{sample['sample_id']}' of "
                f"'{sample.get('dataset')}' asks for "
                f"{'no box' if truth is None else f'{len(truth)} boxes'}, expected one."
            )
        meta = sample.get("meta") or {}
        height, width = truth.size
        expression = meta.get("expression")
        said = region_values(sample.get("pred_regions", ()))
        facts = dict(width=width, height=height, pred_regions=said)
        if "pred_ids" in sample:
            facts["tokens"] = len(sample["pred_ids"])
        if expression is not None:
            facts["expression"] = expression
        reference = truth.to("pixel").xyxy[0].tolist()
        problems = list(sample.get("problems", ()))
        return dict(reference=reference, meta=facts, problems=problems)

    def score(self, rows: list[dict]) -> tuple[list[dict], dict[str, float]]:
        """Return the judged rows and the metrics."""
        records = [
            dict(row, uid=row["sample_id"], text=row["pred"], cluster=row["image"])
            for row in rows
        ]
        verdicts = [self.scorer.verdict(record) for record in records]
        totals = self.scorer.totals(records, verdicts).metrics
        shares = ("acc", "lenient", "miou", "mean_box", "upper_bound")
        metrics: dict[str, float] = {key: totals[key] / 100 for key in shares}
        ious = [verdict.get("iou", 0.0) for verdict in verdicts]
        for threshold, share in iou_curve(ious).items():
            metrics[f"acc@{threshold:.2f}"] = share
        lengths = [row["meta"]["tokens"] for row in rows if "tokens" in row["meta"]]
        if lengths:
            metrics["tokens"] = sum(lengths) / len(lengths)
        metrics.update(parse_failures=totals["parse_failures"], num=len(rows))
        judged = zip(rows, verdicts, strict=True)
        return [{**row, **verdict} for row, verdict in judged], metrics
