"""Reader of A-OKVQA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.json_tables import (
    index_of,
    key_of,
    load_table,
    others_of,
    record_of,
    texts_of,
)
from mmvlm.registry import DATASETS

from .questions import OPTION_LETTER, QuestionDataset, by_trust


@DATASETS.register_module()
class AOKVQADataset(QuestionDataset):
    """A-OKVQA: four choices, ten direct answers and three rationales per question.

    ``aokvqa_v1p0_<split>.json`` is a list of ``{"split", "image_id", "question_id",
    "question", "choices", "correct_choice_idx", "direct_answers",
    "difficult_direct_answer", "rationales"}``; the test split has no answers.
    Images are COCO's of 2017: ``<image_id, 12 digits>.jpg``.
    Paper: Schwenk et al., ECCV 2022.

    The default task asks for the letter, as LLaVA-1.5 does; it trains with
    ``rotate_choices=True``. The first rationale is the question's, all of them are in
    ``meta['rationales']``.

    Args:
        ann_file (str): annotation file.
        **kwargs: see :class:`QuestionDataset`.
    """

    default_task: ClassVar[dict] = dict(type="MultipleChoice", suffix=OPTION_LETTER)
    default_image_name = "{image_id:012d}.jpg"

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for number, raw in enumerate(load_table(self.ann_file, list)):
            known = isinstance(raw, dict) and "question_id" in raw
            yield raw["question_id"] if known else number, raw

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        entry = dict(
            id=key_of(raw, "question_id"),
            image=self._image(key_of(raw, "image_id")),
            question=need_text(raw, "question"),
        )
        choices = texts_of(raw, "choices")
        if len(choices) < 2:
            raise ValueError(f"'choices' must be at least two, got {choices}.")
        entry["choices"] = choices
        if raw.get("correct_choice_idx") is not None:
            entry["choice"] = index_of(raw, "correct_choice_idx", len(choices))
        if raw.get("direct_answers") is not None:
            entry["answers"] = by_trust(texts_of(raw, "direct_answers"))
        if raw.get("rationales"):
            entry["rationale"] = texts_of(raw, "rationales")[0]
        used = ("question_id", "image_id", "question", "choices", "direct_answers")
        return [{**entry, "meta": others_of(raw, *used, "correct_choice_idx")}]
