"""Reader of MathVista."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.json_tables import load_table, others_of, record_of, texts_of
from mmvlm.registry import DATASETS

from .questions import QuestionDataset


@DATASETS.register_module()
class MathVistaDataset(QuestionDataset):
    """MathVista: mathematics about figures, with options or free answers.

    ``testmini.json`` and ``test.json`` are ``{pid: {"question", "query", "image",
    "choices" (list or null), "answer", "question_type", "answer_type", "precision",
    "unit", "metadata": {"task", "category", "context", "grade", "skills" (list),
    "source", "language", ...}}}``. ``query`` is what is asked: hint, question and
    options. ``test.json`` hides the answers. Fields of ``metadata`` join the others in
    ``meta``, ``choices`` as ``options``. Paper: Lu et al., "MathVista: Evaluating
    Mathematical Reasoning of Foundation Models in Visual Contexts", ICLR 2024.

    Args:
        ann_file (str): annotation file.
        **kwargs: see :class:`QuestionDataset`. ``image_prefix`` is the folder above
            ``images``.
    """

    default_task: ClassVar[dict] = dict(type="VisualQuestionAnswering")

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for key, raw in load_table(self.ann_file, dict).items():
            yield key, {**raw, "_id": key} if isinstance(raw, dict) else raw

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        is_choice = raw.get("choices") is not None
        about = record_of(raw.get("metadata") or {})
        meta = others_of(raw, "_id", "query", "choices", "answer", "metadata")
        meta |= others_of(about) | dict(answer_type=need_text(raw, "answer_type"))
        meta["options"] = texts_of(raw, "choices") if is_choice else None
        entry = dict(
            id=raw["_id"],
            image=need_text(raw, "image"),
            question=need_text(raw, "query"),
            meta=meta,
        )
        if raw.get("answer"):
            answer = need_text(raw, "answer")
            entry["answers"], meta["reference"] = [answer], answer
        return [entry]
