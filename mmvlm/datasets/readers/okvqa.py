"""Reader of OK-VQA."""

from __future__ import annotations

from typing import Any

from mmvlm.registry import DATASETS

from .vqav2 import VQAv2Dataset

_FIELDS = ("answer", "raw_answer")


@DATASETS.register_module()
class OKVQADataset(VQAv2Dataset):
    """OK-VQA: questions that need knowledge from outside the image.

    The files are VQAv2's: ``OpenEnded_mscoco_<split>_questions.json`` and
    ``mscoco_<split>_annotations.json``; an answer has ``raw_answer`` (as typed)
    beside ``answer``. Five people answered, each answer stands twice in a row of ten.
    Paper: Marino et al., CVPR 2019.

    Args:
        ann_file (str): the questions.
        answer_field (str): ``answer`` or ``raw_answer``.
        **kwargs: see :class:`VQAv2Dataset`.

    Raises:
        ValueError: for another ``answer_field``.
    """

    def __init__(
        self, ann_file: str, *, answer_field: str = "answer", **kwargs: Any
    ) -> None:
        if answer_field not in _FIELDS:
            raise ValueError(
                f"answer_field={answer_field!r}: expected one of {_FIELDS}."
            )
        super().__init__(ann_file, answer_field=answer_field, **kwargs)
