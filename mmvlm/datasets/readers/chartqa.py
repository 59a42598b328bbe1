"""Reader of ChartQA."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.file_patterns import expand_files
from mmvlm.datasets.io.json_tables import load_table, others_of, record_of
from mmvlm.registry import DATASETS

from .questions import QuestionDataset


@DATASETS.register_module()
class ChartQADataset(QuestionDataset):
    """ChartQA: questions about charts, written by people and by a model.

    ``<split>/<split>_human.json`` and ``<split>/<split>_augmented.json`` are lists of
    ``{"imgname", "query", "label"}``; images lie in ``<split>/png``. There are no
    ids: a sample's is ``<part>/<number>``; ``meta['category']`` is the part. Paper:
    Masry et al., "ChartQA: A Benchmark for Question Answering about Charts with Visual
    and Logical Reasoning", Findings of ACL 2022.

    Args:
        ann_file (str): files, ``test/test_{human,augmented}.json``, or one of them (see
            :func:`expand_files`); the last word of a name is the part.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: naming a file that cannot be read.
    """

    def __init__(self, ann_file: str, **kwargs: Any) -> None:
        root = kwargs.get("data_root") or ""
        names = expand_files(root, ann_file, (".json",))
        self.files = [os.path.join(root, name) for name in names]
        kwargs.setdefault("name", "chartqa")
        super().__init__(names[0], **kwargs)

    def _sources(self) -> list[str]:
        return self.files

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for path in self.files:
            part = os.path.splitext(path)[0].rpartition("_")[2]
            for number, raw in enumerate(load_table(path, list)):
                name = f"{part}/{number}"
                if isinstance(raw, dict):
                    raw = {**raw, "_id": name, "category": part}
                yield name, raw

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        answer = need_text(raw, "label")
        meta = others_of(raw, "imgname", "query", "label", "_id")
        return [
            dict(
                id=raw["_id"],
                image=need_text(raw, "imgname"),
                question=need_text(raw, "query"),
                answers=[answer],
                meta=dict(meta, reference=answer),
            )
        ]
