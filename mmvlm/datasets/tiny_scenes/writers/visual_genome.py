"""Visual Genome: regions, objects, attributes and relations of every image."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import (
    expressions,
    image_number,
    relations,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import SceneObject
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

_FILES = ("region_descriptions", "objects", "attributes", "relationships", "image_data")


@SCENE_WRITERS.register_module(name="visual_genome")
class VisualGenomeWriter(SceneWriter):
    """Write Visual Genome's five files and its image folder, one set per split.

    The public set is not split; here each split has a folder of its own. An object
    has its name without colour, its colour as attribute, two described regions, and
    a relation to every object that lies on another side.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write files and images of a split."""
        root = f"visual_genome_{split}"
        os.makedirs(os.path.join(self.folder, root, "VG_100K"), exist_ok=True)
        tables: dict[str, list] = {name: [] for name in _FILES}
        for sample in samples:
            for name, item in zip(_FILES, self._items(sample), strict=True):
                tables[name].append(item)
            image = f"{root}/VG_100K/{image_number(sample)}.{self.image_format}"
            self._write_image(sample, os.path.join(self.folder, image))
        for name, items in tables.items():
            path = os.path.join(self.folder, root, f"{name}.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(items, file)
        return [f"{root}/{name}.json" for name in _FILES]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of everything that is said of a split's images."""
        root = f"visual_genome_{split}"
        return [
            dict(
                type="VisualGenomeDataset",
                data_root=self.folder,
                ann_file=f"{root}/region_descriptions.json",
                also=["objects.json", "attributes.json", "relationships.json"],
                image_data="image_data.json",
                image_prefix=root,
                with_folder=True,
                image_suffix=f".{self.image_format}",
            )
        ]

    def _items(self, sample: SceneSample) -> tuple[dict, dict, dict, dict, dict]:
        """Return what each file says of an image."""
        image_id, scene = image_number(sample), sample.scene
        objects = [
            _object(item, image_id * 10 + number)
            for number, item in enumerate(scene.objects)
        ]
        regions = []
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            for phrase in expressions(item):
                regions.append(
                    dict(
                        region_id=image_id * 100 + len(regions),
                        width=x2 - x1,
                        height=y2 - y1,
                        image_id=image_id,
                        phrase=phrase,
                        y=y1,
                        x=x1,
                    )
                )
        attributes = [
            {**thing, "attributes": [item.colour]}
            for thing, item in zip(objects, scene.objects, strict=True)
        ]
        relationships = [
            dict(
                predicate=predicate,
                object=objects[to],
                relationship_id=image_id * 100 + number,
                synsets=[],
                subject=objects[of],
            )
            for number, (of, predicate, to) in enumerate(relations(scene))
        ]
        name = f"{image_id}.{self.image_format}"
        url = f"https://tiny-scenes.invalid/VG_100K/{name}"
        size = dict(width=scene.size, height=scene.size)
        facts = dict(url=url, image_id=image_id, coco_id=None, flickr_id=None)
        return (
            dict(regions=regions, id=image_id),
            dict(image_id=image_id, objects=objects, image_url=url),
            dict(image_id=image_id, attributes=attributes),
            dict(relationships=relationships, image_id=image_id),
            {**size, **facts},
        )


def _object(item: SceneObject, number: int) -> dict:
    x1, y1, x2, y2 = item.box
    return dict(
        synsets=[],
        h=y2 - y1,
        object_id=number,
        merged_object_ids=[],
        names=[item.label],
        w=x2 - x1,
        y=y1,
        x=x1,
    )
