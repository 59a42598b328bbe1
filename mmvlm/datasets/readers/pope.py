"""Reader of POPE."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.file_patterns import expand_files
from mmvlm.datasets.io.json_tables import key_of, others_of, record_of
from mmvlm.datasets.io.jsonl import JSONLines
from mmvlm.registry import DATASETS

from .questions import QuestionDataset

_LABELS = ("yes", "no")


@DATASETS.register_module()
class POPEDataset(QuestionDataset):
    """POPE: does the image show a thing, asked in three ways of choosing it.

    ``coco_pope_random.json``, ``coco_pope_popular.json`` and
    ``coco_pope_adversarial.json`` hold a line ``{"question_id", "image", "text",
    "label"}`` per question; images are COCO's ``val2014``. Ids begin anew in each
    file, so a sample's id is ``<subset>/<question_id>``; ``meta['category']`` is the
    subset. The random file has had 2,910 and, since 2023, 3,000 lines. Paper: Li et
    al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023.

    Args:
        ann_file (str): files, ``coco_pope_{random,popular,adversarial}.json``, or one
            of them (see :func:`expand_files`); the last word of a name is the subset.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: naming a file that cannot be read.
    """

    def __init__(self, ann_file: str, **kwargs: Any) -> None:
        root = kwargs.get("data_root") or ""
        names = expand_files(root, ann_file, (".json",))
        self.files = [os.path.join(root, name) for name in names]
        kwargs.setdefault("name", "pope")
        super().__init__(names[0], **kwargs)

    def _sources(self) -> list[str]:
        return self.files

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for path in self.files:
            subset = os.path.splitext(path)[0].rpartition("_")[2]
            for line in JSONLines(path):
                name = f"{subset}/line {line.number}"
                if line.reason is not None:
                    yield name, ValueError(line.reason)
                else:
                    yield name, (subset, line.value)

    def _entries(self, raw: Any) -> list[dict]:
        if isinstance(raw, ValueError):
            raise raw
        subset, raw = raw[0], record_of(raw[1])
        key, label = key_of(raw, "question_id"), need_text(raw, "label")
        if label not in _LABELS:
            raise ValueError(f"'label' must be one of {_LABELS}, got {label!r:.40}.")
        meta = others_of(raw, "question_id", "text", "label")
        return [
            dict(
                id=f"{subset}/{key}",
                question_id=key,
                image=need_text(raw, "image"),
                question=need_text(raw, "text"),
                answers=[label],
                meta=dict(meta, category=subset, reference=label),
            )
        ]
