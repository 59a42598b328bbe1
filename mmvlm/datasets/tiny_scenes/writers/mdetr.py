"""MDETR's COCO-like files: expressions, and captions with both kinds of boxes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import (
    expressions,
    grounded_caption,
    image_number,
    outline,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import SceneObject
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

_ROOT = "mdetr_annotations"
_CATEGORIES = [dict(supercategory="object", id=1, name="object")]


@SCENE_WRITERS.register_module(name="mdetr")
class MDETRWriter(SceneWriter):
    """Write ``finetune_refcoco``, ``final_flickr_separateGT`` and ``..._mergedGT``.

    Expressions are those of the RefCOCO writer, with masks. A caption names all
    objects, and a second text calls them together, which is a phrase with several
    boxes, or with one around them all in the merged file.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the three files of a split."""
        os.makedirs(os.path.join(self.folder, _ROOT), exist_ok=True)
        tables = (
            self._expressions(samples),
            self._captions(samples, merged=False),
            self._captions(samples, merged=True),
        )
        for name, table in zip(_files(split), tables, strict=True):
            with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
                json.dump(table, file)
        return _files(split)

    def readers(self, split: str) -> list[dict]:
        """Return a dataset per file."""
        task = dict(type="PhraseGrounding")
        return [
            dict(
                type="MDETRDataset",
                data_root=self.folder,
                ann_file=name,
                image_prefix="images",
                **({"task": task} if "flickr" in name else {}),
            )
            for name in _files(split)
        ]

    def _expressions(self, samples: Sequence[SceneSample]) -> dict:
        images, annotations = [], []
        for sample in samples:
            for item in sample.scene.objects:
                for text in expressions(item):
                    number = len(images)
                    images.append(self._image(sample, number, text, "refcoco"))
                    found = _annotation([item], number, number, [[0, len(text)]])
                    annotations.append({**found, "segmentation": outline(item)})
        return _coco(images, annotations)

    def _captions(self, samples: Sequence[SceneSample], merged: bool) -> dict:
        images, annotations = [], []
        for sample in samples:
            objects = list(sample.scene.objects)
            text, spans = grounded_caption(sample.scene)
            group = "Everything here is shown"
            place = (0, len("Everything"))
            things = [[item] for item in objects]
            for number, (caption, phrases) in enumerate(
                ((text, zip(spans, things, strict=True)), (group, [(place, objects)]))
            ):
                entry = self._image(sample, len(images), caption, "flickr")
                evaluated = []
                for (start, end), items in phrases:
                    evaluated.append([[start, end]])
                    for box in [items] if merged else [[item] for item in items]:
                        annotations.append(
                            _annotation(
                                box, len(annotations), entry["id"], [[start, end]]
                            )
                        )
                entry |= dict(
                    original_img_id=image_number(sample),
                    sentence_id=number,
                    tokens_positive_eval=evaluated,
                )
                images.append(entry)
        return _coco(images, annotations)

    def _image(self, sample: SceneSample, number: int, text: str, name: str) -> dict:
        return dict(
            file_name=self.image_path(sample).removeprefix("images/"),
            height=sample.scene.size,
            width=sample.scene.size,
            id=number,
            original_id=image_number(sample),
            caption=text,
            dataset_name=name,
        )


def _files(split: str) -> list[str]:
    names = ("finetune_refcoco", "final_flickr_separateGT", "final_flickr_mergedGT")
    return [f"{_ROOT}/{name}_{split}.json" for name in names]


def _coco(images: list, annotations: list) -> dict:
    return dict(
        info=[],
        licenses=[],
        images=images,
        annotations=annotations,
        categories=_CATEGORIES,
    )


def _annotation(
    items: Sequence[SceneObject], number: int, image_id: int, tokens: list
) -> dict:
    """Return the annotation of the box around some objects."""
    low = [min(item.box[side] for item in items) for side in (0, 1)]
    high = [max(item.box[side] for item in items) for side in (2, 3)]
    width, height = high[0] - low[0], high[1] - low[1]
    return dict(
        area=width * height,
        iscrowd=0,
        image_id=image_id,
        category_id=1,
        id=number,
        bbox=[*low, width, height],
        tokens_positive=tokens,
    )
