"""PACO-LVIS and PASCAL-Part: objects and their upper and lower halves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import Scene, SceneObject
from mmvlm.datasets.tiny_scenes.scene_masks import LABELS, object_mask
from mmvlm.registry import SCENE_WRITERS
from mmvlm.structures.masks import mask_to_rle, rle_box

from .coco_detection import CocoDetectionWriter, xywh

#: What stands for a whole object, and its two parts.
PARTS = ("", "top", "bottom")
_IDS = {
    (label, part): number
    for number, (label, part) in enumerate(
        ((label, part) for label in LABELS for part in PARTS), start=1
    )
}


def part_mask(scene: Scene, item: SceneObject, part: str) -> np.ndarray:
    """Return the pixels of an object, or of one of its halves: (S, S) uint8."""
    mask = object_mask(scene, item)
    middle = (item.box[1] + item.box[3]) // 2
    if part == "top":
        mask[middle:] = 0
    elif part == "bottom":
        mask[:middle] = 0
    return mask


@SCENE_WRITERS.register_module(name="paco_lvis")
class PACOLVISWriter(CocoDetectionWriter):
    """Write ``paco/annotations/paco_lvis_v1_train.json`` and ``val``.

    Categories are ``digit_7_(drawn)`` and ``digit_7_(drawn):top``. Masks are run
    lengths.
    """

    root: ClassVar[str] = "paco"
    reader: ClassVar[str] = "PACOLVISDataset"
    files: ClassVar[dict] = dict(
        train="annotations/paco_lvis_v1_train.json",
        test="annotations/paco_lvis_v1_val.json",
    )
    parts: ClassVar[tuple[str, ...]] = PARTS
    test_task: ClassVar[dict] = dict(
        type="SemanticSegmentation", unit="instance", max_classes=1
    )

    def _image_prefix(self, split: str) -> str:
        return ""

    def _image(self, sample: SceneSample, image_id: int) -> dict:
        folder = self.image_folders[sample.id.split("-")[0]]
        image = super()._image(sample, image_id)
        return image | dict(
            file_name=f"{folder}/{self._file_name(sample)}",
            neg_category_ids=[],
            not_exhaustive_category_ids=[],
        )

    def _things(self, sample: SceneSample) -> Iterator[tuple]:
        for item in sample.scene.objects:
            for part in self.parts:
                yield (item.label, part), (item, part)

    def _category_id(self, label: tuple[str, str]) -> int:
        return _IDS[label]

    def _category_name(self, label: str, part: str) -> str:
        name = f"{label.replace(' ', '_')}_(drawn)"
        return f"{name}:{part}" if part else name

    def _categories(self) -> list[dict]:
        return [
            dict(
                supercategory="PART" if part else "OBJECT",
                id=number,
                name=self._category_name(label, part),
            )
            for (label, part), number in _IDS.items()
            if part in self.parts
        ]

    def _annotation(self, sample: SceneSample, item: tuple[SceneObject, str]) -> dict:
        mask = part_mask(sample.scene, *item)
        rle = mask_to_rle(mask)
        number = sample.scene.objects.index(item[0]) * len(self.parts)
        return dict(
            bbox=xywh(rle_box(rle)),
            area=int(mask.sum()),
            segmentation=rle,
            attribute_ids=[],
            obj_ann_id=image_number(sample) * 100 + number,
        )


@SCENE_WRITERS.register_module(name="pascal_part")
class PascalPartWriter(PACOLVISWriter):
    """Write ``pascal_part/train.json`` and ``val.json``: parts alone, ``cat:top``."""

    root: ClassVar[str] = "pascal_part"
    reader: ClassVar[str] = "PascalPartDataset"
    image_folders: ClassVar[dict] = dict.fromkeys(
        ("train", "test"), "VOCdevkit/VOC2010/JPEGImages"
    )
    files: ClassVar[dict] = dict(train="train.json", test="val.json")
    parts: ClassVar[tuple[str, ...]] = PARTS[1:]

    def _image_prefix(self, split: str) -> str:
        return self.image_folders[split]

    def _file_name(self, sample: SceneSample) -> str:
        return f"2008_{image_number(sample):06d}.jpg"

    def _image(self, sample: SceneSample, image_id: int) -> dict:
        size = sample.scene.size
        name = self._file_name(sample)
        return dict(file_name=name, height=size, width=size, id=image_id)

    def _category_name(self, label: str, part: str) -> str:
        return f"{label.replace(' ', '_')}:{part}"
