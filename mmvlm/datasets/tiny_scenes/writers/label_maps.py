"""Sets whose annotations are label maps: ADE20K, COCO-Stuff, Mapillary Vistas."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import PIL.Image

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene_masks import LABELS, label_map
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

#: What the ground around the objects is called where it is a class.
GROUND = "ground"


class LabelMapWriter(SceneWriter):
    """Write images, label maps and the list of classes of one set.

    Every kind of object is a class; pixels that an object covers by less than half
    are labelled as nothing.
    """

    root: ClassVar[str]
    reader: ClassVar[str]
    class_list: ClassVar[str]
    image_folders: ClassVar[dict]
    label_folders: ClassVar[dict]

    def __init__(self, folder: str, image_format: str = "jpg") -> None:
        super().__init__(folder, image_format)

    @abstractmethod
    def _stem(self, sample: SceneSample) -> str:
        """Return the file name of an image and its label map, without ending."""

    @abstractmethod
    def _label_map(self, sample: SceneSample) -> np.ndarray:
        """Return the numbers in the file."""

    @abstractmethod
    def _class_text(self) -> str:
        """Return what the list of classes holds."""

    def image_path(self, sample: SceneSample) -> str:
        """Return the image's path below ``folder``."""
        folder = self.image_folders[sample.id.split("-")[0]]
        return f"{self.root}/{folder}/{self._stem(sample)}.jpg"

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write images, label maps and the list of classes."""
        self.write_images(samples)
        folder = f"{self.root}/{self.label_folders[split]}"
        os.makedirs(os.path.join(self.folder, folder), exist_ok=True)
        names = [f"{self.root}/{self.class_list}"]
        with open(os.path.join(self.folder, names[0]), "w", encoding="utf-8") as file:
            file.write(self._class_text())
        for sample in samples:
            names.append(f"{folder}/{self._stem(sample)}.png")
            path = os.path.join(self.folder, names[-1])
            self._save(PIL.Image.fromarray(self._label_map(sample)), path)
        return names

    def _save(self, image: PIL.Image.Image, path: str) -> None:
        image.save(path)

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split's images; testing asks one question."""
        config = dict(
            type=self.reader,
            data_root=os.path.join(self.folder, self.root),
            ann_file=self.class_list,
            image_prefix=self.image_folders[split],
            label_prefix=self.label_folders[split],
        )
        if split == "test":
            config["task"] = dict(type="SemanticSegmentation", max_classes=1)
        return [config]


@SCENE_WRITERS.register_module(name="ade20k")
class ADE20KWriter(LabelMapWriter):
    """Write ``ade20k`` as ADEChallengeData2016: 0 is nothing, classes count from 1.

    The ground is a class.
    """

    root: ClassVar[str] = "ade20k"
    reader: ClassVar[str] = "ADE20KDataset"
    class_list: ClassVar[str] = "objectInfo150.txt"
    image_folders: ClassVar[dict] = dict(
        train="images/training", test="images/validation"
    )
    label_folders: ClassVar[dict] = dict(
        train="annotations/training", test="annotations/validation"
    )

    def _stem(self, sample: SceneSample) -> str:
        split = "train" if sample.id.startswith("train") else "val"
        return f"ADE_{split}_{image_number(sample):08d}"

    def _label_map(self, sample: SceneSample) -> np.ndarray:
        numbers = {label: number for number, label in enumerate(LABELS, 1)}
        background = len(LABELS) + 1
        return label_map(sample.scene, numbers, background=background, unsure=0)

    def _class_text(self) -> str:
        lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
        for number, label in enumerate((*LABELS, GROUND), 1):
            stuff = int(label == GROUND)
            lines.append(f"{number}\t0.0100\t10\t10\t{stuff}\t{label}, drawn {label}")
        return "\n".join(lines) + "\n"


@SCENE_WRITERS.register_module(name="coco_stuff")
class COCOStuffWriter(LabelMapWriter):
    """Write ``cocostuff``: classes count from 0, 255 is nothing.

    The ground is a class with a hyphen, ``ground-other``.
    """

    root: ClassVar[str] = "cocostuff"
    reader: ClassVar[str] = "COCOStuffDataset"
    class_list: ClassVar[str] = "labels.txt"
    image_folders: ClassVar[dict] = dict(train="train2017", test="val2017")
    label_folders: ClassVar[dict] = dict(
        train="stuffthingmaps/train2017", test="stuffthingmaps/val2017"
    )

    def _stem(self, sample: SceneSample) -> str:
        return f"{image_number(sample):012d}"

    def _label_map(self, sample: SceneSample) -> np.ndarray:
        numbers = {label: number for number, label in enumerate(LABELS)}
        background = len(LABELS)
        return label_map(sample.scene, numbers, background=background, unsure=255)

    def _class_text(self) -> str:
        names = ("unlabeled", *LABELS, f"{GROUND}-other")
        return "".join(f"{number}: {name}\n" for number, name in enumerate(names))


@SCENE_WRITERS.register_module(name="mapillary")
class MapillaryWriter(LabelMapWriter):
    """Write ``mapillary`` as Vistas 2.0: palette images, a configuration.

    The last class, ``Unlabeled``, is not evaluated; all that is no object bears it.
    """

    root: ClassVar[str] = "mapillary"
    reader: ClassVar[str] = "MapillaryVistasDataset"
    class_list: ClassVar[str] = "config_v2.0.json"
    image_folders: ClassVar[dict] = dict(
        train="training/images", test="validation/images"
    )
    label_folders: ClassVar[dict] = dict(
        train="training/v2.0/labels", test="validation/v2.0/labels"
    )

    def _stem(self, sample: SceneSample) -> str:
        return f"tiny_scene_{image_number(sample):012d}"

    def _label_map(self, sample: SceneSample) -> np.ndarray:
        numbers = {label: number for number, label in enumerate(LABELS)}
        nothing = len(LABELS)
        return label_map(sample.scene, numbers, background=nothing, unsure=nothing)

    def _save(self, image: PIL.Image.Image, path: str) -> None:
        image.putpalette(
            [value for label in self._labels() for value in label["color"]]
        )
        image.save(path)

    def _labels(self) -> list[dict]:
        labels = [
            dict(
                color=[number * 9 + 9, 255 - number * 9, 100],
                instances=True,
                readable=label.title(),
                name=f"object--{label.replace(' ', '-')}",
                evaluate=True,
            )
            for number, label in enumerate(LABELS)
        ]
        nothing = dict(color=[0, 0, 0], instances=False, readable="Unlabeled")
        return [*labels, dict(nothing, name="void--unlabeled", evaluate=False)]

    def _class_text(self) -> str:
        config = dict(
            labels=self._labels(),
            version=2.0,
            mapping="public",
            folder_structure="{split}/v2.0/{content}/{image_id:s}.{extension}",
        )
        return json.dumps(config)
