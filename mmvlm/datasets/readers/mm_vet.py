"""Reader of MM-Vet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.json_tables import load_table, others_of, record_of, texts_of
from mmvlm.registry import DATASETS

from .questions import QuestionDataset


@DATASETS.register_module()
class MMVetDataset(QuestionDataset):
    """MM-Vet: open questions that a judge grades, by the capabilities they need.

    ``mm-vet.json`` is ``{"v1_<number>": {"imagename", "question", "answer",
    "capability" (list), "imagesource"}}``; an answer may hold ``<AND>`` and ``<OR>``.
    Paper: Yu et al., "MM-Vet: Evaluating Large Multimodal Models for Integrated
    Capabilities", ICML 2024.

    Args:
        ann_file (str): annotation file.
        **kwargs: see :class:`QuestionDataset`.
    """

    default_task: ClassVar[dict] = dict(type="VisualQuestionAnswering")

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for key, raw in load_table(self.ann_file, dict).items():
            yield key, {**raw, "_id": key} if isinstance(raw, dict) else raw

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        answer, needed = need_text(raw, "answer"), texts_of(raw, "capability")
        meta = others_of(raw, "_id", "question", "answer")
        return [
            dict(
                id=raw["_id"],
                image=need_text(raw, "imagename"),
                question=need_text(raw, "question"),
                answers=[answer],
                meta=dict(meta, category=",".join(needed), reference=answer),
            )
        ]
