"""Reader of COCO captions and of sets in their format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.json_tables import key_of, load_table, others_of, record_of
from mmvlm.registry import DATASETS

from .captions import CaptionDataset


@DATASETS.register_module()
class COCOCaptionsDataset(CaptionDataset):
    """COCO captions: five or more sentences per image.

    ``captions_<split>.json`` is ``{"images": [{"id", "file_name", "height", "width",
    "coco_url", ...}], "annotations": [{"id", "image_id", "caption"}]}``; NoCaps and
    VizWiz-Captions have the same layout. ``image_info_test*.json`` has no
    annotations: its images have no caption, and need a task that only asks
    (``dict(type="ImageCaption", ask_only=True, prompts=[...])``).

    A caption of an image that is not listed, and an image without caption in a file
    that has captions, are damaged records. Paper: Chen et al., arXiv 1504.00325.

    Args:
        ann_file (str): annotation file.
        **kwargs: see :class:`CaptionDataset`.

    Raises:
        ValueError: naming a file that cannot be read.
    """

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        table = load_table(self.ann_file, dict, "images")
        annotations = table.get("annotations")
        if not isinstance(annotations, list | None):
            raise ValueError(
                f"annotation file '{self.ann_file}': 'annotations' must be a list, got "
                f"{annotations!r:.80}."
            )
        by_image: dict[Any, list] = {}
        for raw in annotations or ():
            key = raw.get("image_id") if isinstance(raw, dict) else None
            key = key if isinstance(key, int | str) else None
            by_image.setdefault(key, []).append(raw)
        for number, raw in enumerate(table["images"]):
            key = raw.get("id") if isinstance(raw, dict) else None
            if not isinstance(key, int | str):
                yield number, raw
                continue
            captions = by_image.pop(key, [])
            if annotations and not captions:
                raw = ValueError(f"image {key} has no caption, or is listed twice.")
                yield key, raw
            else:
                yield key, {**raw, "_captions": captions}
        for key, captions in by_image.items():
            for raw in captions:
                name = raw.get("id", key) if isinstance(raw, dict) else key
                yield (
                    name,
                    ValueError(f"caption of image {key!r}, which is not listed."),
                )

    def _entry(self, raw: Any) -> dict:
        if isinstance(raw, ValueError):
            raise raw
        raw = record_of(raw)
        key = key_of(raw, "id")
        return dict(
            id=key,
            image=need_text(raw, "file_name"),
            captions=[_caption(one) for one in raw["_captions"]],
            height=raw.get("height"),
            width=raw.get("width"),
            meta={
                "image_id": key,
                **others_of(raw, "id", "file_name", "_captions", "height", "width"),
            },
        )


def _caption(raw: Any) -> str:
    # Some of COCO's sentences end with a line break.
    return need_text(record_of(raw), "caption").strip()
