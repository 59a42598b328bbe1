"""Reader of the captions of LLaVA-CC3M-Pretrain-595K."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.json_tables import key_of, load_table, others_of, record_of
from mmvlm.registry import DATASETS

from .captions import CaptionDataset

_FIELDS = ("caption", "blip_caption", "both")


@DATASETS.register_module()
class CC3MDataset(CaptionDataset):
    """LLaVA-CC3M-Pretrain-595K: ``metadata.json``.

    A list of ``{"id", "image", "caption", "blip_caption", "url"}``: the alternative
    text of CC3M and BLIP's caption. ``chat.json`` beside it holds conversations that
    :class:`LLaVADataset` reads. Images are ``GCC_train_<9 digits>.jpg`` in the
    folder of ``images.zip``. The default task shows the image alone, as the template
    ``plain`` wants it.

    Args:
        ann_file (str): ``metadata.json``.
        field (str): ``caption``, ``blip_caption`` or ``both``.
        **kwargs: see :class:`CaptionDataset`.

    Raises:
        ValueError: for another ``field``; naming a file that cannot be read.
    """

    default_task: ClassVar[dict] = dict(type="ImageCaption")

    def __init__(self, ann_file: str, *, field: str = "caption", **kwargs: Any) -> None:
        if field not in _FIELDS:
            raise ValueError(f"field={field!r}: expected one of {list(_FIELDS)}.")
        self.fields = _FIELDS[:2] if field == "both" else (field,)
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        return {**super()._row_options(), "fields": list(self.fields)}

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for number, raw in enumerate(load_table(self.ann_file, list)):
            known = isinstance(raw, dict) and "id" in raw
            yield raw["id"] if known else number, raw

    def _entry(self, raw: Any) -> dict:
        raw = record_of(raw)
        return dict(
            id=key_of(raw, "id"),
            image=need_text(raw, "image"),
            captions=[need_text(raw, field) for field in self.fields],
            meta=others_of(raw, "id", "image", *self.fields),
        )
