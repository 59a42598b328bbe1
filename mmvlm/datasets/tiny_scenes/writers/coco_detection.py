"""COCO's instances; the other sets in its JSON build on this writer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import SceneObject
from mmvlm.datasets.tiny_scenes.scene_masks import (
    LABELS,
    object_mask,
    shape_outline,
)
from mmvlm.registry import SCENE_WRITERS
from mmvlm.structures.masks import mask_to_rle

from .base import SceneWriter

#: Ids have holes, as COCO's 80 classes have between 1 and 90.
CATEGORY_IDS = {label: number * 2 + 1 for number, label in enumerate(LABELS)}


@SCENE_WRITERS.register_module(name="coco_detection")
class CocoDetectionWriter(SceneWriter):
    """Write ``coco/annotations/instances_train2017.json`` (and ``val2017``).

    Classes are ``circle``, ``digit 7``, ``word cat``. Shapes have polygons, digits run
    lengths as a list and words compressed ones: all three forms that COCO's tools
    know (COCO itself keeps run lengths for crowds). Images lie in
    ``coco/train2017/000000000001.jpg``; their format is always JPEG, as in all sets
    with masks but where the file says otherwise.
    """

    root: ClassVar[str] = "coco"
    reader: ClassVar[str] = "CocoDetectionDataset"
    #: Takes the place of the reader's own task where that asks several questions.
    test_task: ClassVar[dict] = {}
    image_folders: ClassVar[dict] = dict(train="train2017", test="val2017")
    files: ClassVar[dict] = dict(
        train="annotations/instances_train2017.json",
        test="annotations/instances_val2017.json",
    )

    def __init__(self, folder: str, image_format: str = "jpg") -> None:
        super().__init__(folder, image_format)

    def image_path(self, sample: SceneSample) -> str:
        """Return the image's path below ``folder``."""
        split = sample.id.split("-")[0]
        return f"{self.root}/{self.image_folders[split]}/{self._file_name(sample)}"

    def _file_name(self, sample: SceneSample) -> str:
        return f"{image_number(sample):012d}.jpg"

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write images and annotation file of a split."""
        self.write_images(samples)
        images, annotations = [], []
        for sample in samples:
            image_id = image_number(sample)
            images.append(self._image(sample, image_id))
            for number, (label, item) in enumerate(self._things(sample)):
                annotation = self._annotation(sample, item)
                annotations.append(
                    dict(
                        **annotation,
                        image_id=image_id,
                        category_id=self._category_id(label),
                        id=image_id * 100 + number,
                    )
                )
        tables = dict(
            info=dict(description="TinyScenes", version="1.0", year=2017),
            licenses=[dict(url="", id=1, name="none")],
            images=images,
            annotations=annotations,
            categories=self._categories(),
        )
        name = f"{self.root}/{self.files[split]}"
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(tables, file)
        return [name]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split's images; testing asks one question."""
        config = dict(
            type=self.reader,
            data_root=os.path.join(self.folder, self.root),
            ann_file=self.files[split],
            image_prefix=self._image_prefix(split),
        )
        if split == "test" and self.test_task:
            config["task"] = dict(self.test_task)
        return [config]

    # What dialects change ---------------------------------------------------

    def _image_prefix(self, split: str) -> str:
        return self.image_folders[split]

    def _image(self, sample: SceneSample, image_id: int) -> dict:
        return dict(
            license=1,
            file_name=self._file_name(sample),
            coco_url=f"http://tiny-scenes.invalid/{self.image_path(sample)}",
            height=sample.scene.size,
            width=sample.scene.size,
            date_captured="2013-11-14 17:02:52",
            id=image_id,
        )

    def _things(self, sample: SceneSample) -> Iterator[tuple[str, SceneObject]]:
        """Yield what is annotated, with its class."""
        for item in sample.scene.objects:
            yield item.label, item

    def _category_id(self, label: str) -> int:
        return CATEGORY_IDS[label]

    def _categories(self) -> list[dict]:
        return [
            dict(
                supercategory=label.split()[0] if " " in label else "shape",
                id=number,
                name=label,
            )
            for label, number in CATEGORY_IDS.items()
        ]

    def _annotation(self, sample: SceneSample, item: SceneObject) -> dict:
        mask = object_mask(sample.scene, item)
        if item.kind == "shape":
            segmentation: Any = [shape_outline(item)]
        elif item.kind == "digit":
            segmentation = dict(counts=runs_of(mask), size=list(mask.shape))
        else:
            segmentation = mask_to_rle(mask)
        return dict(
            segmentation=segmentation,
            area=float(mask.sum()),
            iscrowd=0,
            bbox=xywh(item.box),
        )


def xywh(box: Sequence[float]) -> list[float]:
    """Return x, y, width and height of a box of corners."""
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]


def runs_of(mask: np.ndarray) -> list[int]:
    """Return run lengths down the columns, the first one of zeros."""
    flat = mask.ravel(order="F") > 0
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = [0, *borders.tolist(), flat.size]
    runs = np.diff(ends).tolist()
    return [0, *runs] if flat[0] else runs
