"""Reader of VizWiz-VQA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need, need_text
from mmvlm.datasets.io.json_tables import load_table, others_of, record_of
from mmvlm.registry import DATASETS

from .questions import SHORT_ANSWER, QuestionDataset, by_trust

#: What LLaVA-1.5 writes before the line that asks for a short answer.
UNANSWERABLE = (
    "When the provided information is insufficient, respond with 'Unanswerable'."
)


@DATASETS.register_module()
class VizWizDataset(QuestionDataset):
    """VizWiz-VQA: questions that blind people asked about their own photographs.

    ``train.json``, ``val.json`` and ``test.json`` are lists of ``{"image",
    "question", "answers": [{"answer", "answer_confidence"} x 10], "answer_type",
    "answerable"}``; the test split has image and question only. An image has one
    question, so the image's name is the id. Paper: Gurari et al., CVPR 2018.

    Args:
        ann_file (str): annotation file.
        **kwargs: see :class:`QuestionDataset`.
    """

    default_task: ClassVar[dict] = dict(
        type="VisualQuestionAnswering", suffix=f"{UNANSWERABLE}\n{SHORT_ANSWER}"
    )

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for number, raw in enumerate(load_table(self.ann_file, list)):
            known = isinstance(raw, dict) and isinstance(raw.get("image"), str)
            yield raw["image"] if known else number, raw

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        image = need_text(raw, "image")
        entry = dict(id=image, image=image, question=need_text(raw, "question"))
        if raw.get("answers") is not None:
            if not isinstance(raw["answers"], list) or not raw["answers"]:
                raise ValueError(
                    f"'answers' must be a list, got {raw['answers']!r:.80}."
                )
            answers = [need(record_of(item), "answer", str) for item in raw["answers"]]
            entry["answers"] = by_trust(answers)
        return [{**entry, "meta": others_of(raw, "image", "question", "answers")}]
