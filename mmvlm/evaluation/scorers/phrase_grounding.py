"""Boxes for the phrases of captions (Flickr30k Entities)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mmvlm.evaluation.functional.boxes import Box
from mmvlm.evaluation.functional.phrase_grounding import (
    TOP,
    PhraseTarget,
    boxes_of_phrase,
    phrase_hits,
    recall_table,
    same_phrase,
)
from mmvlm.evaluation.functional.written_boxes import written_box
from mmvlm.registry import SCORERS

from .base import Record, Scorer, Totals, Verdict, clusters_of, mean_percent

#: What a record asks for that failed before its phrases could be read: one is missed.
_UNREAD = [PhraseTarget(())]


@SCORERS.register_module()
class PhraseGroundingScorer(Scorer):
    """Recall of phrases at 1, 5, 10 and all boxes, in percent, overall and by type.

    A record's ``reference`` is a list of ``{"phrase", "types", "boxes"}``, boxes in
    pixels; a phrase's predictions are the regions of ``meta['pred_regions']`` with
    these words, or all regions where the record asks for one phrase. ``merged`` holds
    them against one box around the phrase's own, ``any`` against each. ``ferret`` is
    ``merged`` on what Ferret's parser reads in the text; ``meta`` holds ``width`` and
    ``height``.

    Args:
        rule (str | None): see above. Default: ``merged``.
    """

    rules: ClassVar[tuple[str, ...]] = ("merged", "any", "ferret")
    region_rules = ("merged", "any")
    headline = "recall@1"

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; the score is the share of phrases found at 1."""
        hits, loose, prediction = [], [], []
        for target in _targets(record, merge=self.rule != "any"):
            boxes, others = self._boxes(record, target)
            hits.append(phrase_hits(boxes, target))
            loose.append(any(phrase_hits(others, target).values()))
            prediction.append([list(map(float, box)) for box in boxes])
        first = [found[1] for found in hits]
        return dict(
            score=float(np.mean(first)) if hits else 0.0,
            lenient=float(np.mean(np.maximum(first, loose))) if hits else 0.0,
            parsed=bool(hits) and all(map(_is_anywhere, prediction)),
            prediction=prediction,
            hits=[{str(k): bool(v) for k, v in found.items()} for found in hits],
        )

    def reference_answer(self, record: Record) -> dict[str, Any]:
        """See :meth:`Scorer.reference_answer`; ``ferret`` reads it in the text."""
        targets = _targets(record, merge=self.rule != "any")
        regions = [
            dict(
                kind="box", phrase=one.phrase, boxes=list(map(list, one.boxes)), rles=[]
            )
            for one in targets
        ]
        meta = record["meta"]
        size = (meta["height"], meta["width"])
        written = (written_box("ferret", one.boxes[0], size)[3:] for one in targets)
        names = (one.phrase for one in targets)
        text = ", ".join(map(" ".join, zip(names, written, strict=True)))
        return dict(text=text, pred_regions=regions)

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`; a phrase is an item of the mean."""
        rows, units = [], np.zeros((len(records), 2))
        for number, (record, verdict) in enumerate(zip(records, verdicts, strict=True)):
            targets = _targets(record, merge=False)
            if verdict["failed"] and not targets:
                targets = _UNREAD
            nothing = [{str(k): False for k in TOP}] * len(targets)
            hits = verdict.get("hits", nothing)
            rows += zip(targets, hits, strict=True)
            units[number] = sum(found["1"] for found in hits), len(hits)
        metrics: dict[str, float] = {self.headline: 0.0}
        for k, table in recall_table(rows).items():
            name = "upper_bound" if k == "-1" else f"recall@{k}"
            for category, value in table.items():
                end = "" if category == "all" else f"/{category}"
                metrics[name + end] = 100.0 * value
        failures = sum(not verdict["parsed"] for verdict in verdicts)
        metrics.update(num_phrases=float(len(rows)), parse_failures=float(failures))
        return Totals(metrics, units, clusters_of(records), mean_percent)

    def _boxes(self, record: Record, target: PhraseTarget) -> tuple[list, list]:
        """Return the boxes of a phrase, and all that the answer names."""
        meta = record.get("meta") or {}
        regions = meta.get("pred_regions") or ()
        every = [row for region in regions for row in region["boxes"]]
        if self.rule == "ferret":
            size = (meta["height"], meta["width"])
            text = record.get("text") or ""
            return boxes_of_phrase(text, target.phrase, size), every
        if len(record["reference"]) == 1:
            return every, every
        own = [
            row
            for region in regions
            if same_phrase(region.get("phrase") or "", target.phrase)
            for row in region["boxes"]
        ]
        return own, every


def _is_anywhere(boxes: Sequence[Box]) -> bool:
    """Whether a phrase has a box that is not the zero box of what was not read."""
    return any(any(box) for box in boxes)


def _targets(record: Record, merge: bool) -> list[PhraseTarget]:
    """Return the phrases of a record's reference."""
    targets = [
        PhraseTarget(tuple(one["boxes"]), tuple(one.get("types", ())), one["phrase"])
        for one in record["reference"]
    ]
    return [target.merged() if merge else target for target in targets]
