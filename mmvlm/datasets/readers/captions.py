"""What readers of captions share."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.structures import AnnotatedImage, Caption

#: What LLaVA-1.5 asks TextCaps with, and what its captions are scored with.
ONE_SENTENCE = "Provide a one-sentence caption for the provided image."
_GROUPS = ("image", "caption")


class CaptionDataset(AnnotatedImageDataset):
    """Reader of captions; one sample per image or per caption.

    Subclasses yield raw records (:meth:`_records_of_file`) and turn one into an entry
    (:meth:`_entry`): ``id``, ``image``, ``captions`` (texts), ``meta`` and, where the
    file has them, ``height`` and ``width``. A record that cannot be used becomes a
    damaged row in its place.

    mmpretrain's ``COCOCaption`` and ``TextVQA`` are not used: they hold all captions
    as Python objects in every worker and give samples without turns.

    Args:
        ann_file (str): annotation file, relative to ``data_root``.
        group (str): ``image`` makes a sample of every image, whose task draws one of
            its captions in every epoch; ``caption`` one of every caption.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for an unknown ``group``.
    """

    default_task: ClassVar[dict] = dict(type="ImageCaption", prompts=[ONE_SENTENCE])
    row_version = 2

    def __init__(self, ann_file: str, *, group: str = "image", **kwargs: Any) -> None:
        if group not in _GROUPS:
            raise ValueError(f"group={group!r}: expected one of {list(_GROUPS)}.")
        self.group = group
        super().__init__(ann_file, **kwargs)

    @abstractmethod
    def _records_of_file(self) -> Iterable[tuple[Any, Any]]:
        """Yield (id, raw record); the id names the record when it is damaged.

        Raises:
            ValueError: naming the file, when it cannot be read at all.
        """

    @abstractmethod
    def _entry(self, raw: Any) -> dict:
        """Return what a record says.

        Raises:
            ValueError: naming the field, when the record is damaged.
        """

    def _row_options(self) -> dict:
        return dict(group=self.group)

    def _beside(self, file: str) -> str:
        return os.path.join(self.data_root, file)

    def _flatten(self) -> Iterator[dict]:
        for record_id, raw in self._records_of_file():
            try:
                entry = self._entry(raw)
            except ValueError as error:
                yield damaged(record_id, str(error))
                continue
            entry |= dict(id=str(entry["id"]), question_id=entry["id"])
            captions = entry["captions"]
            if self.group == "image" or len(captions) < 2:
                yield entry
                continue
            for number, caption in enumerate(captions):
                name = f"{entry['id']}-{number}"
                yield {**entry, "id": name, "captions": [caption]}

    def _num_words(self, record: dict) -> int:
        captions = record.get("captions") or [""]
        return len(captions[0].split())

    def _size(self, record: dict, image: str) -> tuple[int, int] | None:
        sides = record.get("height"), record.get("width")
        known = all(isinstance(side, int) and side > 0 for side in sides)
        return sides if known else None

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        texts = row["captions"]
        return AnnotatedImage(
            row["image"],
            size,
            captions=tuple(map(Caption, texts)),
            id=row["id"],
            meta={
                "question_id": row["question_id"],
                **row.get("meta", {}),
                "captions": list(texts),
            },
        )
