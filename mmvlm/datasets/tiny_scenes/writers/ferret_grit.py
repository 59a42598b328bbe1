"""Ferret's GRIT: conversations with places for boxes, and masks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import numpy as np

from mmvlm.datasets.tiny_scenes.draw import opacity
from mmvlm.datasets.tiny_scenes.ground_truth import grounded_caption, image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import SceneObject
from mmvlm.datasets.tiny_scenes.styles import ALL_COLOURS
from mmvlm.registry import SCENE_WRITERS
from mmvlm.structures.masks import mask_to_rle

from .base import SceneWriter

_ROOT = "ferret_grit"
_PARTS = ("vg_object", "refexp", "flickr", "objects365")


@SCENE_WRITERS.register_module(name="ferret_grit")
class FerretGRITWriter(SceneWriter):
    """Write four parts of Ferret's GRIT, named as its scripts name them.

    ``vg_object`` asks what is at a region, ``refexp`` where something is, ``flickr``
    for a caption with boxes, ``objects365`` whether a thing is there, one that is and
    one of a colour that the image does not have. ``vg_object`` has masks, ``task``
    and ``form``. A training record has all questions of its part about an image, a
    test record has one.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the four files of a split."""
        os.makedirs(os.path.join(self.folder, _ROOT), exist_ok=True)
        tables: dict[str, list] = {part: [] for part in _PARTS}
        for sample in samples:
            for part, turns in _talks(sample).items():
                # Earlier answers help: a test asks every question alone.
                step = len(turns) if split == "train" else 2
                for start in range(0, len(turns), step):
                    name = f"{part}-{sample.id}-{start // 2}"
                    rounds = turns[start : start + step]
                    tables[part].append(self._record(sample, name, rounds))
        files = []
        for part, records in tables.items():
            files.append(_name(part, split))
            path = os.path.join(self.folder, files[-1])
            with open(path, "w", encoding="utf-8") as file:
                json.dump(records, file)
        return files

    def readers(self, split: str) -> list[dict]:
        """Return a dataset per part; regions are shown as boxes."""
        return [
            dict(
                type="FerretGRITDataset",
                data_root=self.folder,
                ann_file=_name(part, split),
                image_prefix="images",
                point_share=0.0,
            )
            for part in _PARTS
        ]

    def _record(self, sample: SceneSample, name: str, turns: list[tuple]) -> dict:
        size = sample.scene.size
        record = dict(
            id=name,
            image=self.image_path(sample).removeprefix("images/"),
            image_h=size,
            image_w=size,
            conversations=[
                {"from": "gpt" if number % 2 else "human", "value": text}
                for number, (text, _) in enumerate(turns)
            ],
            box_x1y1x2y2=[[ferret_box(item) for item in items] for _, items in turns],
        )
        record["conversations"][0]["value"] = f"<image>\n{turns[0][0]}"
        if name.startswith("vg_object"):
            record["masks"] = [[_mask(i, size) for i in items] for _, items in turns]
            record |= dict(task="region", form="name")
        return record


def ferret_box(item: SceneObject) -> list[int]:
    """Return a box whose far edges are the last pixels inside, as Ferret's are."""
    x1, y1, x2, y2 = item.box
    return [x1, y1, x2 - 1, y2 - 1]


def _name(part: str, split: str) -> str:
    return f"{_ROOT}/{part}_{split}.json"


def _mask(item: SceneObject, size: int) -> dict:
    mask = np.zeros((size, size), np.uint8)
    x1, y1, x2, y2 = item.box
    mask[y1:y2, x1:x2] = opacity(item) > 0.5
    return mask_to_rle(mask)


def _talks(sample: SceneSample) -> dict[str, list[tuple[str, list[SceneObject]]]]:
    """Return per part the texts of a conversation, each with its objects."""
    objects = list(sample.scene.objects)
    named, rounds, there = [], [], []
    order = np.arange(len(objects))
    # In the scene's order a model would learn whose turn it is instead of looking.
    np.random.default_rng(image_number(sample)).shuffle(order)
    for item in (objects[number] for number in order):
        named += [("What is <bbox_location0>?", [item]), (f"A {item.phrase}.", [])]
    for item in objects:
        rounds.append((f"What is the location of {item.reference} in the image?", []))
        rounds.append((f"{item.reference} <bbox_location0>.", [item]))
        there.append((f"Is there a {item.reference} in the image?", []))
        there.append((f"Yes, the {item.reference} <bbox_location0> is there.", [item]))
    colours = {item.colour for item in objects}
    other = next(colour for colour in ALL_COLOURS if colour not in colours)
    first = objects[0]
    there.append((f"Is there a {other} {first.thing} in the image?", []))
    there.append((f"No, but there is a {first.reference} <bbox_location0>.", [first]))
    text, spans = grounded_caption(sample.scene)
    for number, (_, end) in reversed(list(enumerate(spans))):
        text = f"{text[:end]} <bbox_location{number}>{text[end:]}"
    caption = [("Describe the image with locations.", []), (f"{text}.", objects)]
    return dict(zip(_PARTS, (named, rounds, caption, there), strict=True))
