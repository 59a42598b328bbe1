"""Reader of DocVQA and InfographicVQA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.json_tables import (
    key_of,
    load_table,
    others_of,
    record_of,
    texts_of,
)
from mmvlm.registry import DATASETS

from .questions import QuestionDataset

_IMAGES = ("image", "image_local_name")


@DATASETS.register_module()
class DocVQADataset(QuestionDataset):
    """DocVQA and InfographicVQA: pages and posters, answers as they stand there.

    ``val_v1.0_withQT.json`` and ``infographicsVQA_val_v1.0_withQT.json`` are
    ``{"dataset_name", "dataset_split", "data": [{"questionId", "question", "answers",
    "image" or "image_local_name", ...}]}``; test files have no answers. Every answer is
    right; the best one counts. Papers: Mathew et al., "DocVQA: A Dataset for VQA on
    Document Images", WACV 2021; Mathew et al., "InfographicVQA", WACV 2022.

    Args:
        ann_file (str): annotation file.
        **kwargs: see :class:`QuestionDataset`. ``image_prefix`` is the folder above
            DocVQA's ``documents``, or that of the infographics.
    """

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for number, raw in enumerate(load_table(self.ann_file, dict, "data")["data"]):
            known = isinstance(raw, dict) and "questionId" in raw
            yield raw["questionId"] if known else number, raw

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        fields = [field for field in _IMAGES if field in raw]
        entry = dict(
            id=key_of(raw, "questionId"),
            image=need_text(raw, fields[0] if fields else _IMAGES[0]),
            question=need_text(raw, "question"),
        )
        if raw.get("answers") is not None:
            entry["answers"] = texts_of(raw, "answers")
        return [{**entry, "meta": others_of(raw, "questionId", "question", "answers")}]
