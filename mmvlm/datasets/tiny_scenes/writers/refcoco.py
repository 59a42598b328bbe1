"""RefCOCO's pickle of expressions and COCO's instances beside it."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Sequence

from mmvlm.datasets.readers.refcoco import read_refs
from mmvlm.datasets.tiny_scenes.ground_truth import (
    expressions,
    image_number,
    outline,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import NAMES, SceneObject
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

_CATEGORIES = [
    dict(supercategory=kind, id=number, name=kind)
    for number, kind in enumerate(NAMES, 1)
]


@SCENE_WRITERS.register_module(name="refcoco")
class RefCOCOWriter(SceneWriter):
    """Write ``refcoco/refs(unc).p`` and ``refcoco/instances.json``.

    Both files hold all splits, as the public ones do: writing a split replaces
    what they say of it. Training scenes are ``train``; of the test scenes, writing
    is ``testA`` and shapes are ``testB``, so the two ask for different things, as
    people and other things do in RefCOCO. Every object has two sentences and a mask.

    Args:
        folder (str): root of the dataset.
        image_format (str): ``png`` or ``jpg``.
        name (str): of the set: ``refcoco``, ``refcoco+``, ``refcocog``.
        by (str): way of splitting: ``unc``, ``umd``, ``google``.
    """

    def __init__(
        self,
        folder: str,
        image_format: str = "png",
        *,
        name: str = "refcoco",
        by: str = "unc",
    ) -> None:
        super().__init__(folder, image_format)
        self.refs, self.instances = f"{name}/refs({by}).p", f"{name}/instances.json"

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the two files, keeping the other split."""
        refs, tables = self._other(split)
        for sample in samples:
            image_id = image_number(sample)
            tables["images"].append(
                dict(
                    license=1,
                    file_name=self.image_path(sample).removeprefix("images/"),
                    id=image_id,
                    width=sample.scene.size,
                    height=sample.scene.size,
                )
            )
            for number, item in enumerate(sample.scene.objects):
                ann_id = image_id * 10 + number
                tables["annotations"].append(_annotation(item, ann_id, image_id))
            refs += self._refs(sample, split)
        self._dump(refs, tables)
        return [self.refs, self.instances]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of expressions of a split."""
        return [
            dict(
                type="RefCOCODataset",
                data_root=self.folder,
                ann_file=self.refs,
                image_prefix="images",
                split=split,
            )
        ]

    def _refs(self, sample: SceneSample, split: str) -> list[dict]:
        """Return what is said of the objects of a scene."""
        image_id = image_number(sample)
        return [
            _ref(item, image_id * 10 + number, image_id, split)
            for number, item in enumerate(sample.scene.objects)
        ]

    def _other(self, split: str) -> tuple[list, dict]:
        """Return what the files say of the other split."""
        path = os.path.join(self.folder, self.refs)
        if not os.path.isfile(path):
            return [], dict(
                info={}, licenses=[], images=[], annotations=[], categories=_CATEGORIES
            )
        refs = [ref for ref in read_refs(path) if not ref["split"].startswith(split)]
        kept = {ref["image_id"] for ref in refs}
        with open(os.path.join(self.folder, self.instances), encoding="utf-8") as file:
            tables = json.load(file)
        for name, key in (("images", "id"), ("annotations", "image_id")):
            tables[name] = [row for row in tables[name] if row[key] in kept]
        return refs, tables

    def _dump(self, refs: list, tables: dict) -> None:
        path = os.path.join(self.folder, self.refs)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        is_json = path.endswith(".json")
        data = json.dumps(refs).encode() if is_json else pickle.dumps(refs, protocol=2)
        with open(path, "wb") as file:
            file.write(data)
        with open(
            os.path.join(self.folder, self.instances), "w", encoding="utf-8"
        ) as file:
            json.dump(tables, file)


def _annotation(item: SceneObject, ann_id: int, image_id: int) -> dict:
    x1, y1, x2, y2 = item.box
    return dict(
        segmentation=outline(item),
        area=float((x2 - x1) * (y2 - y1)),
        iscrowd=0,
        image_id=image_id,
        bbox=[float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
        category_id=list(NAMES).index(item.kind) + 1,
        id=ann_id,
    )


def _ref(item: SceneObject, ann_id: int, image_id: int, split: str) -> dict:
    texts = expressions(item)
    sent_ids = [ann_id * 10 + number for number in range(len(texts))]
    if split == "test":
        split = "testB" if item.kind == "shape" else "testA"
    return dict(
        sent_ids=sent_ids,
        file_name=f"COCO_train2014_{image_id:012d}_{ann_id}.jpg",
        ann_id=ann_id,
        ref_id=ann_id,
        image_id=image_id,
        split=split,
        sentences=[
            dict(tokens=text.split(), raw=text.capitalize(), sent_id=sent_id, sent=text)
            for sent_id, text in zip(sent_ids, texts, strict=True)
        ],
        category_id=list(NAMES).index(item.kind) + 1,
    )
