"""Reader of OCRBench."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need, need_text
from mmvlm.datasets.io.json_tables import load_table, others_of, record_of
from mmvlm.registry import DATASETS

from .questions import QuestionDataset


@DATASETS.register_module()
class OCRBenchDataset(QuestionDataset):
    """OCRBench: text in images of 29 sets, a thousand questions.

    ``OCRBench.json`` is a list of ``{"dataset_name", "id", "image_path", "question",
    "answers" (a text or a list), "type"}``. Ids begin anew in each set, so a sample's
    id is ``<dataset_name>/<number in the file>``. ``meta['category']`` is the type.
    Paper: Liu et al., "OCRBench: On the Hidden Mystery of OCR in Large Multimodal
    Models", arXiv 2305.07895.

    Args:
        ann_file (str): annotation file.
        **kwargs: see :class:`QuestionDataset`.
    """

    default_task: ClassVar[dict] = dict(type="VisualQuestionAnswering")

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for number, raw in enumerate(load_table(self.ann_file, list)):
            yield number, {**raw, "_number": number} if isinstance(raw, dict) else raw

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        answers = need(raw, "answers", (str, list))
        texts = [answers] if isinstance(answers, str) else answers
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"'answers' must be texts, got {answers!r:.80}.")
        source = need_text(raw, "dataset_name")
        meta = others_of(raw, "id", "question", "answers", "_number")
        return [
            dict(
                id=f"{source}/{raw['_number']}",
                question_id=raw.get("id", raw["_number"]),
                image=need_text(raw, "image_path"),
                question=need_text(raw, "question"),
                answers=texts,
                meta=dict(meta, category=need_text(raw, "type"), reference=answers),
            )
        ]
