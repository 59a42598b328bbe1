"""Reader of VQAv2 and of sets in its format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmvlm.datasets.io.annotation_files import need, need_text
from mmvlm.datasets.io.json_tables import key_of, load_table, others_of, record_of
from mmvlm.registry import DATASETS

from .questions import QuestionDataset, by_trust

_IMAGES = "COCO_{}_{{image_id:012d}}.jpg"
#: test-dev asks about a part of the images of test.
_FOLDERS = {"test-dev2015": "test2015"}


@DATASETS.register_module()
class VQAv2Dataset(QuestionDataset):
    """VQAv2: questions and the answers of ten people, in two files.

    ``v2_OpenEnded_mscoco_<split>_questions.json`` holds ``{"data_subtype",
    "questions": [{"image_id", "question", "question_id"}]}``,
    ``v2_mscoco_<split>_annotations.json`` ``{"annotations": [{"question_id",
    "image_id", "question_type", "answer_type", "multiple_choice_answer",
    "answers": [{"answer", "answer_confidence", "answer_id"} x 10]}]}``. Images are
    ``COCO_<split>_<image_id, 12 digits>.jpg`` in a folder per split, which
    ``image_prefix`` names.

    Answers are sorted: ``multiple_choice_answer`` first, then the more frequent. A
    question without annotation, an annotation without question, and a question with
    two annotations are damaged records. Paper: Goyal et al., CVPR 2017.

    Args:
        ann_file (str): the questions.
        answer_file (str | None): the annotations; None for test splits.
        answer_field (str): of an answer.
        **kwargs: see :class:`QuestionDataset`. ``image_name`` None takes the
            ``data_subtype`` of the file.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: naming the file, when it cannot be read, or tells no
            ``data_subtype`` and ``image_name`` is None.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        answer_file: str | None = None,
        answer_field: str = "answer",
        **kwargs: Any,
    ) -> None:
        self.answer_file = answer_file
        self.answer_field = answer_field
        super().__init__(ann_file, **kwargs)

    def _sources(self) -> list[str]:
        beside = [] if self.answer_file is None else [self._beside(self.answer_file)]
        return [self.ann_file, *beside]

    def _row_options(self) -> dict:
        return {**super()._row_options(), "answer_field": self.answer_field}

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        table = load_table(self.ann_file, dict, "questions")
        if self.image_name is None:
            split = table.get("data_subtype")
            if not isinstance(split, str) or not split:
                raise ValueError(
                    f"annotation file '{self.ann_file}' has no 'data_subtype'; say "
                    "image_name='COCO_<split>_{image_id:012d}.jpg'."
                )
            self.image_name = _IMAGES.format(_FOLDERS.get(split, split))
        answers, twice = self._answers()
        for number, raw in enumerate(table["questions"]):
            key = raw.get("question_id") if isinstance(raw, dict) else None
            name = number if key is None else key
            if answers is None or not isinstance(key, int | str):
                yield name, raw
            elif key in twice:
                yield name, ValueError(f"question {key} has several annotations.")
            elif key not in answers:
                yield name, ValueError(f"question {key} has no annotation.")
            else:
                yield name, {**raw, "annotation": answers[key]}
        known = {q.get("question_id") for q in table["questions"] if _has_key(q)}
        for key in answers or ():
            if key not in known:
                yield key, ValueError(f"annotation {key} belongs to no question.")

    def _answers(self) -> tuple[dict | None, set]:
        """Return annotations by question, and the questions that have several."""
        if self.answer_file is None:
            return None, set()
        path = self._beside(self.answer_file)
        by_question: dict[Any, Any] = {}
        twice = set()
        for number, raw in enumerate(
            load_table(path, dict, "annotations")["annotations"]
        ):
            key = raw["question_id"] if _has_key(raw) else f"annotations[{number}]"
            if key in by_question:
                twice.add(key)
            by_question[key] = raw
        return by_question, twice

    def _entries(self, raw: Any) -> list[dict]:
        if isinstance(raw, ValueError):
            raise raw
        raw = record_of(raw)
        entry = dict(
            id=key_of(raw, "question_id"),
            image=self._image(key_of(raw, "image_id")),
            question=need_text(raw, "question"),
        )
        used = ("question_id", "image_id", "question", "annotation")
        meta = others_of(raw, *used)
        if "annotation" in raw:
            annotation = record_of(raw["annotation"])
            if annotation.get("image_id") != raw["image_id"]:
                raise ValueError(
                    f"question {entry['id']} is about image {raw['image_id']!r}, its "
                    f"annotation about {annotation.get('image_id')!r}."
                )
            best = annotation.get("multiple_choice_answer")
            entry["answers"] = by_trust(self._texts(annotation), best)
            meta |= others_of(annotation, "question_id", "image_id", "answers")
        return [{**entry, "meta": meta}]

    def _texts(self, annotation: dict) -> list[str]:
        answers = annotation.get("answers")
        if not isinstance(answers, list) or not answers:
            raise ValueError(f"'answers' must be a list, got {answers!r:.80}.")
        return [need(record_of(answer), self.answer_field, str) for answer in answers]


def _has_key(raw: Any) -> bool:
    return isinstance(raw, dict) and isinstance(raw.get("question_id"), int | str)
