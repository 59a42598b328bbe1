"""Scores of records whose answers are masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mmvlm.evaluation.functional.masks import (
    MaskOverlap,
    ReplyOverlaps,
    mask_ious,
    mask_totals,
    reply_overlaps,
)
from mmvlm.registry import SCORERS
from mmvlm.structures.masks import check_rle

from .base import Record, Scorer, Totals, Verdict, clusters_of, ratio

#: What a record adds that failed before its reference could be read: a mask missed.
_UNREAD = ReplyOverlaps([MaskOverlap(0, 1)], [False], 0)


@SCORERS.register_module()
class MaskScorer(Scorer):
    """gIoU and cIoU (ReasonSeg, referring expression segmentation), in percent.

    A record's ``reference`` is the run lengths of a mask, several of them, or
    ``{"masks": [...], "ignore": run lengths or None}``; masks of its reply stand in
    ``meta["pred_regions"]`` as ``{"mask": run lengths}`` or ``{"rles": [...]}``, in the
    order in which they are said. One that is missing, damaged or of another size is
    empty, and not ``parsed``; ``giou_lenient`` and ``ciou_lenient`` leave those out.

    Args:
        rule (str | None): ``giou``, the mean IoU over masks, is the headline, or
            ``ciou``, intersections over unions of all together.
    """

    rules: ClassVar[tuple[str, ...]] = ("giou", "ciou")
    region_rules = rules

    def __init__(self, rule: str | None = None) -> None:
        super().__init__(rule)
        self.headline = self.rule

    def judge(self, record: Record) -> Verdict:
        """Return overlaps with every reference; ``score`` is their mean IoU."""
        wanted, ignore = _references(record)
        masks = said_masks(record, wanted[0]["size"]) if wanted else []
        found = reply_overlaps(masks, wanted, ignore)
        ious = [one.iou for one in found.overlaps]
        kept = [iou for iou, is_in in zip(ious, found.found, strict=True) if is_in]
        score = float(np.mean(ious)) if ious else 0.0
        return dict(
            score=score,
            strict=score,
            lenient=float(np.mean(kept)) if kept else 0.0,
            parsed=all(found.found),
            prediction=len(masks),
            overlaps=[list(one) for one in found.overlaps],
            found=found.found,
            surplus=found.surplus,
        )

    def reference_answer(self, record: Record) -> dict[str, Any]:
        """See :meth:`Scorer.reference_answer`."""
        masks, _ = _references(record)
        return dict(text="", pred_regions=[dict(kind="mask", rles=masks)])

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`; a unit is a mask: its IoU, 1, and its pixels."""
        units, clusters, found = [], [], []
        owners = clusters_of(records)
        for record, verdict, cluster in zip(records, verdicts, owners, strict=True):
            if "overlaps" not in verdict:  # the record failed
                verdict = {**verdict, **_failed(record)._asdict()}
            for pair, is_in in zip(verdict["overlaps"], verdict["found"], strict=True):
                units.append(pair)
                clusters.append(cluster)
                found.append(is_in)
        numbers = mask_totals(units, found)
        counts = {key: numbers.pop(key) for key in ("parse_failures", "num")}
        metrics = {key: 100.0 * value for key, value in numbers.items()}
        surplus = sum(verdict.get("surplus", 0) for verdict in verdicts)
        pairs = np.array(units, dtype=np.float64).reshape(-1, 2)
        columns = [mask_ious(pairs), np.ones(len(pairs)), *pairs.T]
        top, bottom = (0, 1) if self.rule == "giou" else (2, 3)

        def statistic(sums: np.ndarray) -> np.ndarray:
            return 100.0 * ratio(sums[..., top], sums[..., bottom])

        return Totals(
            {**metrics, **counts, "surplus": surplus},
            np.stack(columns, axis=1),
            np.array(clusters, dtype=np.int64),
            statistic,
        )


def _failed(record: Record) -> ReplyOverlaps:
    """Return a record's masks as missed; not even an empty one is right."""
    wanted, ignore = _references(record)
    if not wanted:
        return _UNREAD
    none = reply_overlaps([], wanted, ignore)
    return none._replace(overlaps=[MaskOverlap(0, max(1, u)) for _, u in none.overlaps])


def _references(record: Record) -> tuple[list[dict], dict | None]:
    found: Any = record["reference"]
    ignore = None
    if isinstance(found, dict) and "masks" in found:
        found, ignore = found["masks"], found.get("ignore")
    return ([found] if isinstance(found, dict) else list(found)), ignore


def said_masks(record: Record, size: Sequence[int]) -> list[dict | None]:
    """Return the masks of a record's reply in order, None for one of no use.

    Args:
        record (dict): with ``meta["pred_regions"]``.
        size (Sequence[int]): height and width that a mask must have.
    """
    regions = (record.get("meta") or {}).get("pred_regions") or ()
    said = [
        mask
        for one in regions
        if isinstance(one, dict)
        for mask in ([one["mask"]] if "mask" in one else one.get("rles", ()))
    ]
    return [_checked(mask, size) for mask in said]


def _checked(mask: Any, size: Sequence[int]) -> dict | None:
    """Return run lengths that can be compared, None for any others."""
    try:
        return check_rle(mask, tuple(size))
    except (ValueError, TypeError):
        return None
