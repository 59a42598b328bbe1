"""Reader of GQA."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

from mmengine.logging import print_log

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.file_patterns import expand_files
from mmvlm.datasets.io.json_tables import key_of, load_table, others_of, record_of
from mmvlm.registry import DATASETS

from .questions import QuestionDataset

_SUBSETS = ("all", "balanced")
_ANSWERS = ("answer", "fullAnswer")


@DATASETS.register_module()
class GQADataset(QuestionDataset):
    """GQA: questions made of scene graphs, in one file or several.

    A file (``train_balanced_questions.json``, ``testdev_balanced_questions.json``) is
    ``{question id: {"question", "imageId", "answer", "fullAnswer", "isBalanced",
    "groups", "types", "semantic", "entailed", "equivalent", "annotations"}}``; the
    whole training set is a folder of ten (``train_all_questions``). Images are
    ``<imageId>.jpg``. Test and challenge questions have no answer. Files are read one
    after the other while rows are made. Paper: Hudson and Manning, CVPR 2019.

    Args:
        ann_file (str): a file, a folder or a pattern (see :func:`expand_files`).
        subset (str): ``all``, or ``balanced``: what is marked so; what this leaves
            out is counted and logged.
        answer (str): ``answer`` (a word or two) or ``fullAnswer`` (a sentence).
        name (str | None): None takes the stem of ``ann_file``.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        FileNotFoundError: when no file is found.
        ValueError: for an unknown ``subset`` or ``answer``; naming a file that cannot
            be read.
    """

    default_image_name = "{image_id}.jpg"

    def __init__(
        self,
        ann_file: str,
        *,
        subset: str = "all",
        answer: str = "answer",
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if subset not in _SUBSETS:
            raise ValueError(f"subset={subset!r}: expected one of {_SUBSETS}.")
        if answer not in _ANSWERS:
            raise ValueError(f"answer={answer!r}: expected one of {_ANSWERS}.")
        self.subset, self.answer = subset, answer
        root = kwargs.get("data_root") or ""
        files = [ann_file]
        if not os.path.isfile(os.path.join(root, ann_file)):
            files = expand_files(root, ann_file, (".json",))
        self.files = [os.path.join(root, file) for file in files]
        stem = os.path.splitext(os.path.basename(ann_file.rstrip("/")))[0]
        super().__init__(files[0], name=name or stem, **kwargs)
        self.ann_file = os.path.join(root, ann_file)

    def _sources(self) -> list[str]:
        return self.files

    def _row_options(self) -> dict:
        options = dict(subset=self.subset, answer=self.answer)
        return {**super()._row_options(), **options}

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        left_out = total = 0
        for path in self.files:
            for key, raw in load_table(path, dict).items():
                total += 1
                marked = isinstance(raw, dict) and raw.get("isBalanced") is False
                if marked and self.subset == "balanced":
                    left_out += 1
                    continue
                yield key, {**raw, "id": key} if isinstance(raw, dict) else raw
        if left_out:
            print_log(
                f"dataset '{self.name}': subset='balanced' leaves out {left_out} of "
                f"{total} questions.",
                logger="current",
                level=logging.INFO,
            )

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        entry = dict(
            id=raw["id"],
            image=self._image(key_of(raw, "imageId")),
            question=need_text(raw, "question"),
        )
        if raw.get("answer") is not None:
            entry["answers"] = [need_text(raw, self.answer)]
        meta = others_of(raw, "id", "imageId", "question", "answer")
        if "answers" in entry:
            (meta["reference"],) = entry["answers"]
        return [{**entry, "meta": meta}]
