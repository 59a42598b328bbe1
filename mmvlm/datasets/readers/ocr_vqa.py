"""Reader of OCR-VQA."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from mmengine.logging import print_log

from mmvlm.datasets.io.json_tables import load_table, others_of, record_of, texts_of
from mmvlm.registry import DATASETS

from .questions import QuestionDataset

_SPLITS = {"train": 1, "val": 2, "test": 3}


@DATASETS.register_module()
class OCRVQADataset(QuestionDataset):
    """OCR-VQA: questions about the covers of books.

    ``dataset.json`` is ``{book id: {"imageURL", "title", "authorName", "genre",
    "questions": [...], "answers": [...], "split": 1 | 2 | 3}}`` for training,
    validation and test. Images are ``<book id>.jpg``: LLaVA-1.5 saves all of them
    under that name, whatever the URL ends with. Paper: Mishra et al., ICDAR 2019.

    The id of a question is ``<book id>-<number>``.

    Args:
        ann_file (str): annotation file.
        split (str | None): ``train``, ``val`` or ``test``; None takes all. What it
            leaves out is counted and logged; a book of no known split is damaged.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        ValueError: for an unknown ``split``; naming a file that cannot be read.
    """

    default_image_name = "{image_id}.jpg"

    def __init__(
        self, ann_file: str, *, split: str | None = None, **kwargs: Any
    ) -> None:
        if split is not None and split not in _SPLITS:
            raise ValueError(f"split={split!r}: expected one of {list(_SPLITS)}.")
        self.split = split
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        return {**super()._row_options(), "split": self.split}

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        number = _SPLITS.get(self.split) if self.split else None
        books, left_out = load_table(self.ann_file, dict), 0
        for key, raw in books.items():
            split = raw.get("split") if isinstance(raw, dict) else None
            known = isinstance(split, int) and split in _SPLITS.values()
            if known and number is not None and split != number:
                left_out += 1
                continue
            yield key, {**raw, "id": key} if isinstance(raw, dict) else raw
        if left_out:
            print_log(
                f"dataset '{self.name}': split='{self.split}' leaves out {left_out} of "
                f"{len(books)} books.",
                logger="current",
                level=logging.INFO,
            )

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        split = raw.get("split")
        if not isinstance(split, int) or split not in _SPLITS.values():
            raise ValueError(f"'split' must be 1, 2 or 3, got {split!r:.40}.")
        questions, answers = texts_of(raw, "questions"), texts_of(raw, "answers")
        if len(questions) != len(answers) or not questions:
            raise ValueError(
                f"{len(questions)} questions and {len(answers)} answers; expected as "
                "many, and at least one."
            )
        blank = [
            k
            for k, pair in enumerate(zip(questions, answers, strict=True))
            if not all(text.strip() for text in pair)
        ]
        if blank:
            raise ValueError(f"questions {blank} or their answers are empty.")
        image = self._image(raw["id"])
        meta = others_of(raw, "id", "questions", "answers")
        return [
            dict(
                id=f"{raw['id']}-{number}",
                image=image,
                question=question,
                answers=[answer],
                meta=meta,
            )
            for number, (question, answer) in enumerate(
                zip(questions, answers, strict=True)
            )
        ]
