"""gIoU and cIoU of the masks in replies."""

from __future__ import annotations

from typing import Any

from mmvlm.evaluation.functional.masks import (
    OVERLAPS,
    mask_totals,
    reply_overlaps,
    rings_rle,
)
from mmvlm.registry import METRICS
from mmvlm.structures.masks import region_rle

from .answers import AnswersMetric


@METRICS.register_module()
class MaskIoUMetric(AnswersMetric):
    """Score the masks of replies against those of the answers that were left out.

    Numbers are fractions behind ``mask/``: ``giou`` and ``ciou``, where a mask that a
    reply lacks is empty; ``giou_lenient`` and ``ciou_lenient`` of the masks that were
    said, and ``said``, their share; ``parse_failures``, the masks that were not;
    ``surplus``, masks beyond those asked for; ``num``. Where several datasets are
    tested, also per set, as in ``giou/refcoco``. Pixels in the sample's
    ``meta["ignore"]`` are not scored.

    Args:
        out_file (str | None): JSON lines with the run lengths of all masks, enough to
            score again and to draw; None writes none.
        overlap (str): pixels under several rings of a reference; see
            :func:`mmvlm.evaluation.functional.masks.rings_rle`.
        **kwargs: see :class:`AnswersMetric`.

    Raises:
        ValueError: for another ``overlap``.
    """

    default_prefix = "mask"

    def __init__(
        self, out_file: str | None = None, *, overlap: str = "union", **kwargs: Any
    ) -> None:
        super().__init__(out_file, **kwargs)
        if overlap not in OVERLAPS:
            raise ValueError(
                f"MaskIoUMetric: overlap='{overlap}', expected one of {list(OVERLAPS)}."
            )
        self.overlap = overlap

    def read_meta(self, sample: dict) -> dict[str, Any]:
        """Return run lengths of references, masks (and scores) and ignored pixels."""
        wanted = [one for one in sample.get("gt_regions") or () if one.kind == "mask"]
        said = [one for one in sample.get("pred_regions") or () if one.kind == "mask"]
        if not wanted:
            raise KeyError(
                f"MaskIoUMetric: sample '{sample['sample_id']}' of "
                f"'{sample.get('dataset')}' asks for no mask; its pipeline needs "
                "WriteRegions(codec=dict(type='RegionTokenCodec')) before "
                "EncodeConversation, and its answer a region of kind 'mask'."
            )
        return dict(
            references=[self._reference(region) for region in wanted],
            masks=[region.rles[0] if region.rles else None for region in said],
            scores=[region.score for region in said],
            ignore=(sample.get("meta") or {}).get("ignore"),
        )

    def _reference(self, region: Any) -> dict:
        rle = region_rle(region)
        if self.overlap == "official" and not (region.rles and region.rles[0]):
            rle = rings_rle(region.polygons[0], rle["size"], overlap=self.overlap)
        return rle

    def score(self, rows: list[dict]) -> tuple[list[dict], dict[str, float]]:
        """Return the judged rows and the metrics."""
        judged = []
        for row in rows:
            found = reply_overlaps(row["masks"], row["references"], row["ignore"])
            judged.append({**row, **found._asdict()})
        return judged, _numbers(judged)


def _numbers(rows: list[dict]) -> dict[str, float]:
    overlaps = [one for row in rows for one in row["overlaps"]]
    found = [one for row in rows for one in row["found"]]
    surplus = sum(row["surplus"] for row in rows)
    return dict(mask_totals(overlaps, found), surplus=surplus)
