"""Reader of LVIS."""

from __future__ import annotations

from typing import Any

from mmvlm.datasets.io.annotation_files import need
from mmvlm.registry import DATASETS

from .coco_detection import CocoDetectionDataset


@DATASETS.register_module()
class LVISDataset(CocoDetectionDataset):
    """LVIS v1 (``lvis_v1_train.json``) and v0.5, over COCO's images.

    An image has no ``file_name`` but a ``coco_url``, whose last two parts are its path
    (``train2017/000000391895.jpg``): validation takes images of both folders, so
    ``image_prefix`` is the folder that holds them. v0.5 has ``file_name``.

    A category has ``synset``, ``synonyms`` and ``def``; underscores in names and
    synonyms become spaces (``baseball bat``, ``crate (for fruit)``), and an instance's
    ``meta["synonyms"]`` holds all of them. Annotation is federated: the image's
    ``meta["absent_names"]`` are classes that are surely absent, and
    ``meta["not_exhaustive_names"]`` those of which not every instance is marked. No
    other class can be said to be absent.

    Paper: Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation",
    CVPR 2019.
    """

    def _image_path(self, image: dict) -> str:
        if "coco_url" not in image:
            return need(image, "file_name", str)
        parts = need(image, "coco_url", str).rstrip("/").split("/")[-2:]
        if len(parts) < 2 or not all(parts):
            raise ValueError(f"'coco_url' {image['coco_url']!r:.80} names no image.")
        return "/".join(parts)

    def _name(self, category: dict) -> tuple[str, dict]:
        synonyms = category.get("synonyms") or [category["name"]]
        if not isinstance(synonyms, list) or not _all_texts(synonyms):
            raise ValueError(
                f"category {category['name']!r:.60}: 'synonyms' must be a list of "
                f"texts, got {synonyms!r:.60}."
            )
        names = [_readable(name) for name in synonyms]
        return _readable(category["name"]), dict(synonyms=names)

    def _image_meta(self, image: dict, names: dict[Any, str]) -> dict:
        meta = super()._image_meta(image, names)
        for field, key in (
            ("neg_category_ids", "absent_names"),
            ("not_exhaustive_category_ids", "not_exhaustive_names"),
        ):
            if field not in image:
                continue
            ids = need(image, field, list)
            unknown = [
                one for one in ids if not isinstance(one, int | str) or one not in names
            ]
            if unknown:
                raise ValueError(f"'{field}': {unknown} are not among the categories.")
            meta[key] = [names[one] for one in ids]
        return meta


def _all_texts(values: list) -> bool:
    return all(isinstance(value, str) for value in values)


def _readable(name: str) -> str:
    return name.replace("_", " ").strip()
