"""Boxes for referring expressions (RefCOCO, RefCOCO+, RefCOCOg)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mmvlm.evaluation.functional.referring import PROTOCOLS, judge_box
from mmvlm.evaluation.functional.written_boxes import written_box
from mmvlm.registry import SCORERS

from .base import MeanScorer, Record, Totals, Verdict, column, percent


@SCORERS.register_module()
class ReferringScorer(MeanScorer):
    """Share of expressions whose box is right, in percent.

    The rule is one of :data:`PROTOCOLS`: how a system's own evaluation reads an answer
    and how much overlap it wants. ``regions`` takes what the config's codec read.
    Beside ``acc`` stand ``miou``, ``parse_failures``, and of the mean of all boxes and
    of the best one ``mean_box`` and ``upper_bound`` (Ferret).

    A record's ``reference`` is the box, x1, y1, x2, y2 in pixels; its ``meta`` holds
    ``width`` and ``height``, ``expression`` (for ``kosmos2``) and ``pred_regions``.

    Args:
        rule (str | None): see above. Default: ``regions``.
        groups (Sequence[str] | None): see :class:`MeanScorer`.
    """

    rules: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    region_rules = tuple(name for name, one in PROTOCOLS.items() if one.read is None)
    group_keys: ClassVar[tuple[str, ...]] = ("category", "split")

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; the prediction is the first box.

        Raises:
            ValueError: naming the record, when its ``meta`` lacks what the rule needs.
        """
        meta = record.get("meta") or {}
        needed = {"width", "height", *["expression"] * (self.rule == "kosmos2")}
        missing = sorted(needed - set(meta))
        if missing:
            raise ValueError(
                f"record {record.get('uid')!r}: meta lacks {', '.join(missing)}, which "
                f"the rule '{self.rule}' needs."
            )
        found = judge_box(
            self.rule,
            record.get("text") or "",
            record["reference"],
            (meta["height"], meta["width"]),
            expression=meta.get("expression", ""),
            regions=predicted_boxes(meta),
        )
        return dict(
            score=float(found.strict),
            strict=float(found.strict),
            lenient=float(found.lenient),
            parsed=found.parsed,
            prediction=list(found.box) if found.parsed else None,
            iou=found.iou,
            mean_box=float(found.mean),
            upper_bound=float(found.best),
        )

    def reference_answer(self, record: Record) -> dict[str, Any]:
        """See :meth:`Scorer.reference_answer`; written as the rule reads it."""
        box, meta = record["reference"], record["meta"]
        size, expression = (meta["height"], meta["width"]), meta.get("expression", "")
        text = written_box(self.rule, box, size, expression)
        return dict(text=text, pred_regions=[dict(kind="box", boxes=[box], rles=[])])

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`."""
        totals = super().totals(records, verdicts)
        rows = [dict(iou=0.0, mean_box=0.0, upper_bound=0.0) | v for v in verdicts]
        totals.metrics.update(
            miou=percent(column(rows, "iou")),
            mean_box=percent(column(rows, "mean_box")),
            upper_bound=percent(column(rows, "upper_bound")),
            parse_failures=float(sum(not v["parsed"] for v in verdicts)),
        )
        return totals


def predicted_boxes(meta: dict) -> list[list[float]]:
    """Return the boxes of a record's ``pred_regions`` in reading order, in pixels."""
    regions = meta.get("pred_regions") or ()
    return [list(row) for region in regions for row in region["boxes"]]
