"""Scores of captions whose phrases have masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from mmvlm.evaluation.functional.grounded_conversation import (
    Similarity,
    count_matches,
    iou_matrix,
    paired_miou,
    shared_words,
)
from mmvlm.evaluation.functional.intervals import ratio
from mmvlm.registry import SCORERS

from .base import Record, Scorer, Totals, Verdict, clusters_of, mean_percent
from .masks import said_masks


@SCORERS.register_module()
class GroundedConversationScorer(Scorer):
    """mIoU of masks and recall of phrases (GLaMM on GranD-f), in percent.

    A record's ``reference`` is ``{"caption", "labels", "masks"}``, a mask per label;
    the regions of kind ``mask`` in ``meta["pred_regions"]`` bring the masks and
    ``phrase``s of its reply. A phrase is found when its mask has an IoU of 0.5 or more
    and its words are alike by 0.5: by the cosine of BERT's mean states (``bert``, the
    published recall), or by the words that they share (``words``, which needs no
    weights). Captions themselves are scored by :class:`CaptionScorer`.

    Args:
        rule (str | None): see above. Default: ``words``.
        text_model (str): folder or hub name of the BERT.
    """

    rules: ClassVar[tuple[str, ...]] = ("words", "bert")
    region_rules = rules
    headline = "miou"

    def __init__(
        self, rule: str | None = None, text_model: str = "bert-base-uncased"
    ) -> None:
        super().__init__(rule)
        self.text_model = text_model

    @cached_property
    def similarity(self) -> Similarity:
        """How alike two phrases are, 0-1."""
        if self.rule == "words":
            return shared_words
        return bert_similarity(self.text_model)

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; the score is the mIoU of the image."""
        wanted, labels = record["reference"]["masks"], record["reference"]["labels"]
        regions = [
            one
            for one in (record.get("meta") or {}).get("pred_regions") or ()
            if isinstance(one, dict) and one.get("kind") == "mask"
        ]
        # A mask that could not be made is no mask, but its words were said.
        kept = [one for one in regions if one.get("rles") or "mask" in one]
        own = {**record, "meta": dict(pred_regions=kept)}
        masks = said_masks(own, wanted[0]["size"]) if wanted else []
        pairs = [
            (mask, one.get("phrase") or "")
            for mask, one in zip(masks, kept, strict=False)
            if mask is not None
        ]
        ious = iou_matrix([mask for mask, _ in pairs], wanted)
        said = [phrase for _, phrase in pairs]
        score = paired_miou(ious)
        return dict(
            score=score,
            parsed=bool(pairs) and len(pairs) == len(regions),
            prediction=len(regions),
            found=count_matches(ious.T, labels, said, self.similarity),
        )

    def reference_answer(self, record: Record) -> dict[str, Any]:
        """See :meth:`Scorer.reference_answer`."""
        found = record["reference"]
        pairs = zip(found["labels"], found["masks"], strict=True)
        regions = [dict(kind="mask", phrase=p, boxes=[], rles=[m]) for p, m in pairs]
        return dict(text=found["caption"], pred_regions=regions)

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`."""
        units = np.array(
            [
                (one["score"], 1, one.get("found", 0), _num_labels(r))
                for r, one in zip(records, verdicts, strict=True)
            ],
            dtype=np.float64,
        ).reshape(-1, 4)
        miou, count, found, phrases = units.sum(axis=0)
        metrics = dict(
            miou=100 * float(ratio(miou, count)),
            recall=100 * float(ratio(found, phrases)),
            num_phrases=float(phrases),
            parse_failures=float(sum(not one["parsed"] for one in verdicts)),
            num=float(count),
        )
        notes = {}
        if self.rule == "words":
            notes["recall"] = "phrases are compared by their words, not by BERT"
        return Totals(metrics, units, clusters_of(records), mean_percent, notes)


def _num_labels(record: Record) -> int:
    """Return the number of phrases to be found; 1 of what could not be read."""
    found = record["reference"]
    return len(found["labels"]) if isinstance(found, dict) else 1


def bert_similarity(name_or_path: str) -> Similarity:
    """Return the cosine of two texts' mean states of BERT's last layer.

    Args:
        name_or_path (str): folder or hub name; the official code takes
            ``bert-base-uncased``.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    model = AutoModel.from_pretrained(name_or_path).eval()

    @lru_cache(maxsize=4096)
    @torch.no_grad()
    def embed(text: str) -> torch.Tensor:
        ids = tokenizer(text, return_tensors="pt", max_length=512, truncation=True)
        return model(**ids).last_hidden_state[0].mean(0)

    def similarity(first: str, second: str) -> float:
        one, other = embed(first), embed(second)
        return float(torch.nn.functional.cosine_similarity(one, other, dim=0))

    return similarity
