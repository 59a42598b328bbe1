"""Scores of records whose answers are masks of any number of things, or of none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mmvlm.evaluation.functional.generalized_masks import (
    GeneralizedVerdict,
    generalized_ratio,
    generalized_totals,
    generalized_units,
    judge_generalized,
)
from mmvlm.registry import SCORERS
from mmvlm.structures.masks import check_rle, empty_rle, merge_rles, rle_area

from .base import Record, Scorer, Totals, Verdict, clusters_of
from .masks import said_masks


@SCORERS.register_module()
class GeneralizedMaskScorer(Scorer):
    """gIoU, cIoU, N-acc and T-acc (gRefCOCO), in percent.

    A record's ``reference`` is the run lengths of all targets together, without a pixel
    where there is none. The masks of its reply, in ``meta["pred_regions"]`` as for
    :class:`MaskScorer`, are joined; a reply without any, or whose masks are empty, says
    that there is nothing. A mask that is damaged or of another size is left out, and
    the record not ``parsed``.

    Args:
        rule (str | None): ``giou``, the headline of the paper, or ``ciou``.
    """

    rules: ClassVar[tuple[str, ...]] = ("giou", "ciou")
    region_rules = rules

    def __init__(self, rule: str | None = None) -> None:
        super().__init__(rule)
        self.headline = self.rule

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; the prediction is the number of pixels."""
        size = tuple(record["reference"]["size"])
        said = said_masks(record, size)
        masks = [mask for mask in said if mask is not None]
        joined = merge_rles(masks) if masks else empty_rle(size)
        return dict(
            _verdict(joined, record),
            parsed=None not in said,
            prediction=rle_area(joined),
        )

    def reference_answer(self, record: Record) -> dict[str, Any]:
        """See :meth:`Scorer.reference_answer`."""
        mask = record["reference"]
        rles = [mask] if rle_area(mask) else []
        return dict(text="", pred_regions=[dict(kind="mask", rles=rles)])

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`."""
        found = []
        for record, verdict in zip(records, verdicts, strict=True):
            if "overlap" not in verdict:  # the record failed, which denies nothing
                verdict = _failed(record)
            found.append(GeneralizedVerdict(*verdict["overlap"]))
        metrics = {key: 100 * one for key, one in generalized_totals(found).items()}
        metrics.update(
            parse_failures=float(sum(not one["parsed"] for one in verdicts)),
            num=float(len(records)),
            no_target=float(sum(not one.has_target for one in found)),
        )

        def statistic(sums: np.ndarray) -> np.ndarray:
            return 100.0 * generalized_ratio(sums, self.rule)

        return Totals(
            metrics, generalized_units(found), clusters_of(records), statistic
        )


def _verdict(mask: dict, record: Record) -> Verdict:
    wanted = check_rle(record["reference"], tuple(record["reference"]["size"]))
    found = judge_generalized(mask, wanted)
    return dict(score=found.iou, overlap=list(found))


def _failed(record: Record) -> Verdict:
    """Return the verdict on a record without an answer: wrong, whatever is meant."""
    if not isinstance(record["reference"], dict):  # it could not even be read
        return dict(overlap=list(GeneralizedVerdict(0.0, 0, 1, True, False)))
    area = rle_area(record["reference"])
    return dict(overlap=list(GeneralizedVerdict(0.0, 0, area, area > 0, False)))
