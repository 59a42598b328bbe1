"""LVIS: masks as polygons, classes with synonyms, classes known to be absent."""

from __future__ import annotations

from typing import ClassVar

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import SceneObject
from mmvlm.datasets.tiny_scenes.scene_masks import object_mask, shape_outline
from mmvlm.registry import SCENE_WRITERS
from mmvlm.structures.masks import mask_to_polygons

from .coco_detection import CATEGORY_IDS, CocoDetectionWriter, xywh


@SCENE_WRITERS.register_module(name="lvis")
class LVISWriter(CocoDetectionWriter):
    """Write ``lvis/lvis_v1_train.json`` and ``val``.

    An image has ``coco_url`` and no ``file_name``; two classes that no object has are
    its ``neg_category_ids``. Masks of digits and words are tiled with rectangles, as
    polygons have no holes.
    """

    root: ClassVar[str] = "lvis"
    reader: ClassVar[str] = "LVISDataset"
    files: ClassVar[dict] = dict(train="lvis_v1_train.json", test="lvis_v1_val.json")

    def _image_prefix(self, split: str) -> str:
        return ""

    def _image(self, sample: SceneSample, image_id: int) -> dict:
        image = super()._image(sample, image_id)
        del image["file_name"]
        there = {item.label for item in sample.scene.objects}
        absent = [
            number for label, number in CATEGORY_IDS.items() if label not in there
        ]
        start = image_number(sample) % (len(absent) - 1)
        image["neg_category_ids"] = absent[start : start + 2]
        image["not_exhaustive_category_ids"] = []
        return image

    def _categories(self) -> list[dict]:
        return [
            dict(
                name=label.replace(" ", "_"),
                synset=f"{label.replace(' ', '_')}.n.01",
                synonyms=[label.replace(" ", "_"), f"{label.split()[-1]}_(drawn)"],
                id=number,
                frequency="f",
                instance_count=1,
                image_count=1,
                **{"def": f"a drawing of a {label}"},
            )
            for label, number in CATEGORY_IDS.items()
        ]

    def _annotation(self, sample: SceneSample, item: SceneObject) -> dict:
        mask = object_mask(sample.scene, item)
        rings = (
            [shape_outline(item)] if item.kind == "shape" else mask_to_polygons(mask)
        )
        return dict(
            area=float(mask.sum()),
            segmentation=[list(ring) for ring in rings],
            bbox=xywh(item.box),
        )
