"""Objects365 v2: boxes, images in patch folders."""

from __future__ import annotations

from typing import ClassVar

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import SceneObject
from mmvlm.registry import SCENE_WRITERS

from .coco_detection import CATEGORY_IDS, CocoDetectionWriter, xywh

_IMAGES_PER_PATCH = 1000


@SCENE_WRITERS.register_module(name="objects365")
class Objects365Writer(CocoDetectionWriter):
    """Write ``objects365/annotations/zhiyuan_objv2_train.json`` and ``val``.

    An image lies at ``train/patch0/objects365_v2_00000001.jpg`` and is called
    ``images/v2/patch0/...`` in the file. Class names are capitalised.
    """

    root: ClassVar[str] = "objects365"
    reader: ClassVar[str] = "Objects365Dataset"
    image_folders: ClassVar[dict] = dict(train="train", test="val")
    files: ClassVar[dict] = dict(
        train="annotations/zhiyuan_objv2_train.json",
        test="annotations/zhiyuan_objv2_val.json",
    )

    def _file_name(self, sample: SceneSample) -> str:
        number = image_number(sample)
        patch = number // _IMAGES_PER_PATCH
        return f"patch{patch}/objects365_v2_{number:08d}.jpg"

    def _image(self, sample: SceneSample, image_id: int) -> dict:
        return dict(
            id=image_id,
            file_name=f"images/v2/{self._file_name(sample)}",
            width=sample.scene.size,
            height=sample.scene.size,
            license=5,
            url="",
        )

    def _categories(self) -> list[dict]:
        names = {label: label.capitalize() for label in CATEGORY_IDS}
        names["cross"] = "Cross/Plus sign"
        return [
            dict(id=number, name=names[label]) for label, number in CATEGORY_IDS.items()
        ]

    def _annotation(self, sample: SceneSample, item: SceneObject) -> dict:
        x, y, width, height = xywh(item.box)
        return dict(
            iscrowd=0,
            isfake=int(item.kind == "word"),
            isreflected=0,
            area=width * height,
            bbox=[x, y, width, height],
        )
