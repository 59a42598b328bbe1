"""ReasonSeg: a question per image, answered with a mask."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import SceneObject
from mmvlm.datasets.tiny_scenes.scene_masks import object_mask, pixel_contours
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

_FOLDERS = dict(train="train", test="val")
_EXPLANATORY = "reason_seg/ReasonSeg/explanatory/train.json"


@SCENE_WRITERS.register_module(name="reason_seg")
class ReasonSegWriter(SceneWriter):
    """Write ``reason_seg/ReasonSeg/train`` (and ``val``): a JSON beside every image.

    The target is one object, asked for by its place; a second one, if there is one, is
    not scored (label ``ignore``), and a third has the deprecated label ``flag``. Every
    second question is a name instead of a sentence, every fifth file is cp1252, and
    every third training image has an explanation.
    """

    def __init__(self, folder: str, image_format: str = "jpg") -> None:
        super().__init__(folder, image_format)

    def image_path(self, sample: SceneSample) -> str:
        """Return the image's path below ``folder``."""
        split, _ = sample.id.split("-")
        name = f"{image_number(sample):07d}.jpg"
        return f"reason_seg/ReasonSeg/{_FOLDERS[split]}/{name}"

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write images and their annotations, and of training the explanations."""
        self.write_images(samples)
        names = []
        for sample in samples:
            names.append(self.image_path(sample).removesuffix("jpg") + "json")
            text = json.dumps(_content(sample), ensure_ascii=False)
            encoding = "cp1252" if image_number(sample) % 5 == 0 else "utf-8"
            with open(os.path.join(self.folder, names[-1]), "wb") as file:
                file.write(text.encode(encoding))
        if split == "train":
            names.append(_EXPLANATORY)
            self._write_explanations(samples)
        return names

    def _write_explanations(self, samples: Sequence[SceneSample]) -> None:
        path = os.path.join(self.folder, _EXPLANATORY)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        items = [
            dict(
                image=os.path.basename(self.image_path(sample)),
                query=texts_of(sample)[0],
                outputs=explanation_of(target_of(sample)),
            )
            for sample in samples
            if image_number(sample) % 3 == 0
        ]
        with open(path, "w", encoding="utf-8") as file:
            json.dump(items, file)

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split's images; testing asks one question."""
        config = dict(
            type="ReasonSegDataset",
            data_root=os.path.join(self.folder, "reason_seg", "ReasonSeg"),
            ann_file=_FOLDERS[split],
        )
        if split == "train":
            config["explanatory_file"] = "explanatory/train.json"
        else:
            config["task"] = dict(type="ReasoningSegmentation", take="first")
        return [config]


def target_of(sample: SceneSample) -> SceneObject:
    """Return the object that is asked for."""
    objects = sample.scene.objects
    return objects[image_number(sample) % len(objects)]


def is_sentence(sample: SceneSample) -> bool:
    """Whether the question is a sentence, not a name."""
    return image_number(sample) % 2 == 1


def texts_of(sample: SceneSample) -> list[str]:
    """Return one to two wordings of the question."""
    item = target_of(sample)
    if not is_sentence(sample):
        return [f"the thing at the {item.position}"]
    return [
        f"Somebody put a thing at the {item.position}. What\u2019s lying there?",
        f"Which thing would one find at the {item.position}?",
    ]


def explanation_of(item: SceneObject) -> str:
    """Return why an object is the answer."""
    return f"At the {item.position} there is a {item.phrase}."


def _content(sample: SceneSample) -> dict:
    target = target_of(sample)
    others = [item for item in sample.scene.objects if item is not target]
    labelled = [(target, "target"), *zip(others, ("ignore", "flag"), strict=False)]
    shapes = [
        dict(
            label=label,
            labels=[label],
            shape_type="polygon",
            image_name=f"{image_number(sample):07d}.jpg",
            points=[list(map(float, point)) for point in ring],
            group_id=None,
            flags={},
        )
        for item, label in labelled
        for ring in pixel_contours(object_mask(sample.scene, item))
    ]
    return dict(text=texts_of(sample), is_sentence=is_sentence(sample), shapes=shapes)
