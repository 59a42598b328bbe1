"""DenseFusion's JSON lines: one long caption for every training image."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import pairwise

from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import Scene
from mmvlm.datasets.tiny_scenes.tasks import box_numbers, caption
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

_FOLDER = "images/"


@SCENE_WRITERS.register_module(name="densefusion")
class DenseFusionWriter(SceneWriter):
    """Write ``densefusion.jsonl``: rows ``image_id, image_path, caption, url``.

    As in DenseFusion-1M, paths are relative to the folder ``images``, and there is
    no test set: captions train the two stages before instruction tuning.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the annotation file of the training split."""
        if split == "test":
            return []
        name = "densefusion.jsonl"
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            for sample in samples:
                path = self.image_path(sample).removeprefix(_FOLDER)
                row = dict(
                    image_id=sample.id,
                    image_path=path,
                    caption=dense_caption(sample.scene),
                    url=f"https://tiny-scenes.invalid/{path}",
                )
                file.write(json.dumps(row) + "\n")
        return [name]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of captions; there is none for testing."""
        if split == "test":
            return []
        return [
            dict(
                type="DenseFusionDataset",
                data_root=self.folder,
                ann_file="densefusion.jsonl",
                image_prefix="images",
            )
        ]


def dense_caption(scene: Scene) -> str:
    """Tell objects and places, their number, extents and how neighbours lie."""
    number = len(scene.objects)
    count = "There is 1 object." if number == 1 else f"There are {number} objects."
    sentences = [f"{caption(scene)}.", count]
    for item in scene.objects:
        x1, y1, x2, y2 = box_numbers(item.box, scene.size)
        across, down = f"from {x1} to {x2} across", f"from {y1} to {y2} down"
        sentences.append(f"The {item.reference} is {across}, {down}.")
    for a, b in pairwise(scene.objects):
        if a.column != b.column:
            sentences.append(f"The {a.reference} is {a.column} of the {b.reference}.")
        if a.row != b.row:
            place = "above" if a.row == "top" else "below"
            sentences.append(f"The {a.reference} is {place} the {b.reference}.")
    return " ".join(sentences)
