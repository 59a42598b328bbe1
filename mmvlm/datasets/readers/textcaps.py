"""Reader of TextCaps."""

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

from .captions import CaptionDataset
from .questions import fill_image_name


@DATASETS.register_module()
class TextCapsDataset(CaptionDataset):
    """TextCaps: captions that need the image's text read.

    ``TextCaps_0.1_<split>.json`` is ``{"data": [{"image_id", "image_name",
    "image_path", "image_width", "image_height", "caption_id", "caption_str",
    "reference_strs" (five), ...}]}``, a row per caption; rows of one image are
    merged. Images are ``<image_id>.jpg`` in ``train_images`` (training and
    validation) or ``test_images``. The test split has no caption. LLaVA-1.5 takes one
    caption per image. Paper: Sidorov et al., ECCV 2020.

    Args:
        ann_file (str): annotation file.
        image_name (str): name of an image.
        **kwargs: see :class:`CaptionDataset`.

    Raises:
        ValueError: naming a file that cannot be read; for an ``image_name`` that is no
            pattern.
    """

    def __init__(
        self, ann_file: str, *, image_name: str = "{image_id}.jpg", **kwargs: Any
    ) -> None:
        fill_image_name(image_name, "a")
        self.image_name = image_name
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        return {**super()._row_options(), "image_name": self.image_name}

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        rows: dict[str, list] = {}
        for number, raw in enumerate(load_table(self.ann_file, dict, "data")["data"]):
            key = raw.get("image_id") if isinstance(raw, dict) else None
            if isinstance(key, int | str):
                rows.setdefault(str(key), []).append(raw)
            else:
                rows[f"row {number}"] = [raw]
        for key, group in rows.items():
            yield key, group

    def _entry(self, raw: Any) -> dict:
        first = record_of(raw[0])
        key = key_of(first, "image_id")
        if first.get("caption_str") is not None:
            captions = [need_text(record_of(row), "caption_str") for row in raw]
        elif first.get("reference_strs") is not None:
            captions = texts_of(first, "reference_strs")
        else:
            captions = []
        used = ("caption_str", "caption_id", "caption_tokens")
        return dict(
            id=key,
            image=fill_image_name(self.image_name, key),
            captions=captions,
            height=first.get("image_height"),
            width=first.get("image_width"),
            meta=others_of(first, *used, "reference_strs", "reference_tokens"),
        )
