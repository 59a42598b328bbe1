"""Reader of TextVQA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.json_tables import (
    key_of,
    load_table,
    others_of,
    record_of,
    texts_of,
)
from mmvlm.registry import DATASETS

from .questions import SHORT_ANSWER, QuestionDataset, by_trust


@DATASETS.register_module()
class TextVQADataset(QuestionDataset):
    """TextVQA: questions that need the image's text read.

    ``TextVQA_0.5.1_<split>.json`` is ``{"data": [{"question_id", "image_id",
    "question", "answers" (10 texts), "image_width", "image_height", "image_classes",
    "question_tokens", "set_name", ...}]}``; images are ``<image_id>.jpg`` in
    ``train_images`` (training and validation) or ``test_images``.
    ``TextVQA_Rosetta_OCR_v0.2_<split>.json`` is ``{"data": [{"image_id",
    "ocr_tokens", "ocr_info"}]}``. Paper: Singh et al., CVPR 2019.

    With ``ocr_file`` the tokens are the hint of a question, which the default task
    writes as LLaVA-1.5 does (``Reference OCR token: a, b``). Its published scores use
    them: 58.2 with, 46 to 49 without.

    Args:
        ann_file (str): annotation file.
        ocr_file (str | None): the tokens. An image that it lacks makes its questions
            damaged records.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: naming a file that cannot be read.
    """

    default_task: ClassVar[dict] = dict(
        type="VisualQuestionAnswering",
        hint_line="Reference OCR token: {hint}",
        suffix=SHORT_ANSWER,
    )
    default_image_name = "{image_id}.jpg"

    def __init__(
        self, ann_file: str, *, ocr_file: str | None = None, **kwargs: Any
    ) -> None:
        self.ocr_file = ocr_file
        super().__init__(ann_file, **kwargs)

    def _sources(self) -> list[str]:
        beside = [] if self.ocr_file is None else [self._beside(self.ocr_file)]
        return [self.ann_file, *beside]

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        tokens = self._tokens()
        for number, raw in enumerate(load_table(self.ann_file, dict, "data")["data"]):
            known = isinstance(raw, dict) and "question_id" in raw
            name = raw["question_id"] if known else number
            if tokens is not None and isinstance(raw, dict):
                image = raw.get("image_id")
                raw = {**raw, "_ocr": tokens.get(str(image), f"of image {image!r}")}
            yield name, raw

    def _tokens(self) -> dict[str, Any] | None:
        """Return the record of OCR tokens of each image."""
        if self.ocr_file is None:
            return None
        path = self._beside(self.ocr_file)
        data = load_table(path, dict, "data")["data"]
        return {str(r.get("image_id")): r for r in data if isinstance(r, dict)}

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        entry = dict(
            id=key_of(raw, "question_id"),
            image=self._image(key_of(raw, "image_id")),
            question=need_text(raw, "question"),
            width=raw.get("image_width"),
            height=raw.get("image_height"),
        )
        if raw.get("answers") is not None:
            entry["answers"] = by_trust(texts_of(raw, "answers"))
        meta = others_of(raw, "question_id", "question", "answers", "_ocr")
        if "_ocr" in raw:
            if isinstance(raw["_ocr"], str):
                raise ValueError(f"'{self.ocr_file}' has no tokens {raw['_ocr']}.")
            tokens = texts_of(raw["_ocr"], "ocr_tokens")
            entry["hint"], meta["ocr_tokens"] = ", ".join(tokens), tokens
        return [{**entry, "meta": meta}]
