"""Flickr30k Entities: sentences with marked phrases, boxes in XML; also Shikra's."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from xml.etree import ElementTree

from mmvlm.datasets.tiny_scenes.ground_truth import grounded_caption, image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import Scene
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

_ROOT = "flickr30k_entities"
_TYPES = {"shape": "other", "digit": "other", "word": "signs/other"}
_SCENE_ENTITY = 9


@SCENE_WRITERS.register_module(name="flickr30k_entities")
class Flickr30kEntitiesWriter(SceneWriter):
    """Write ``Sentences``, ``Annotations`` and split lists, images named by id.

    An image has two sentences: one that names all objects, and one that names the
    first, all of them together and the image itself, which is a scene without a
    box. The images are written into ``flickr30k-images`` under the names that the
    format makes of ids.

    ``CWB_flickr30k_train.jsonl`` has the first sentences as Shikra flattened them.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the files of a split."""
        for name in ("Sentences", "Annotations", "flickr30k-images"):
            os.makedirs(os.path.join(self.folder, _ROOT, name), exist_ok=True)
        files = [f"{_ROOT}/{split}.txt"]
        for sample in samples:
            name = image_name(sample)
            lines = "\n".join(sentences(sample)) + "\n"
            files.append(self._text(f"Sentences/{name}.txt", lines))
            files.append(self._text(f"Annotations/{name}.xml", _xml(sample)))
            image = f"{_ROOT}/flickr30k-images/{name}.{self.image_format}"
            self._write_image(sample, os.path.join(self.folder, image))
        names = "".join(f"{image_name(sample)}\n" for sample in samples)
        self._text(f"{split}.txt", names)
        records = [flattened(sample, number) for number, sample in enumerate(samples)]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        files.append(self._text(f"CWB_flickr30k_{split}.jsonl", lines))
        return files

    def readers(self, split: str) -> list[dict]:
        """Return the datasets of a split's sentences, the set's own and Shikra's."""
        return [
            dict(
                type=name,
                data_root=self.folder,
                ann_file=f"{_ROOT}/{file}",
                image_prefix=f"{_ROOT}/flickr30k-images",
                image_suffix=f".{self.image_format}",
            )
            for name, file in (
                ("Flickr30kEntitiesDataset", f"{split}.txt"),
                ("ShikraFlickr30kDataset", f"CWB_flickr30k_{split}.jsonl"),
            )
        ]

    def _text(self, name: str, text: str) -> str:
        path = os.path.join(self.folder, _ROOT, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return f"{_ROOT}/{name}"


def image_name(sample: SceneSample) -> str:
    """Return the number that the files of an image are named by."""
    return str(1_000_000_000 + image_number(sample))


def sentences(sample: SceneSample) -> list[str]:
    """Return the captions of an image with their marks."""
    first = _entity(sample, 0)
    text, spans = grounded_caption(sample.scene)
    marked, place = "", 0
    for number, (start, end) in enumerate(spans):
        item = sample.scene.objects[number]
        mark = f"[/EN#{first + number}/{_TYPES[item.kind]} {text[start:end]}]"
        marked, place = marked + text[place:start] + mark, end
    # Tokens stand apart, as in the set.
    marked = (marked + text[place:]).replace(",", " ,") + " ."
    return [marked, _group_sentence(sample.scene, first)]


def flattened(sample: SceneSample, number: int) -> dict:
    """Return Shikra's record of the first sentence: coordinates less one."""
    text, spans = grounded_caption(sample.scene)
    for start, end in reversed(spans):
        text = f"{text[:start]}<ph_st>{text[start:end]}<ph_ed>{text[end:]}"
    objects = sample.scene.objects
    return dict(
        id=number,
        image_id=image_name(sample),
        boxes=[[side - 1 for side in item.box] for item in objects],
        sentence=text.replace(",", " ,") + " .",
        boxes_seq=[[index] for index in range(len(objects))],
    )


def _group_sentence(scene: Scene, first: int) -> str:
    item = scene.objects[0]
    parts = [f"[/EN#{first + _SCENE_ENTITY}/scene The picture] shows"]
    if len(scene.objects) > 1:
        group = f"{first + _SCENE_ENTITY - 1}/other"
        parts.append(f"[/EN#{group} {len(scene.objects)} objects] and")
    parts.append(f"[/EN#{first}/{_TYPES[item.kind]} the {item.reference}] .")
    return " ".join(parts)


def _entity(sample: SceneSample, number: int) -> int:
    return image_number(sample) * 10 + number


def _xml(sample: SceneSample) -> str:
    scene, first = sample.scene, _entity(sample, 0)
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{image_name(sample)}.jpg"
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", scene.size), ("height", scene.size), ("depth", 3)):
        ElementTree.SubElement(size, name).text = str(value)
    for number, item in enumerate(scene.objects):
        # An object's box is also one of the group's.
        together = [first + _SCENE_ENTITY - 1] if len(scene.objects) > 1 else []
        thing = _object(root, [first + number, *together])
        bounds = ElementTree.SubElement(thing, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True):
            ElementTree.SubElement(bounds, name).text = str(value)
    thing = _object(root, [first + _SCENE_ENTITY])
    for name, value in (("scene", 1), ("nobndbox", 0)):
        ElementTree.SubElement(thing, name).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _object(root: ElementTree.Element, entities: list[int]) -> ElementTree.Element:
    thing = ElementTree.SubElement(root, "object")
    for entity in entities:
        ElementTree.SubElement(thing, "name").text = str(entity)
    return thing
