"""RefCOCO as Shikra, PINK, Qwen-VL and OFA have it: one flat file each."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence

import cv2

from mmvlm.datasets.tiny_scenes.ground_truth import expressions, image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

_ROOT = "flat_referring"
_FILES = {
    "shikra": "REC_ref3_{}.jsonl",
    "pink": "refcoco_{}.json",
    "qwen_vl": "refcoco_{}.jsonl",
    "ofa": "refcoco_{}.tsv",
}


@SCENE_WRITERS.register_module(name="flat_referring")
class FlatReferringWriter(SceneWriter):
    """Write every expression with its box in four dialects; OFA's has the images."""

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the four files of a split."""
        os.makedirs(os.path.join(self.folder, _ROOT), exist_ok=True)
        records: dict[str, list] = {dialect: [] for dialect in _FILES}
        for sample in samples:
            for dialect, found in self._records(sample).items():
                records[dialect] += found
        texts = {
            dialect: "".join(json.dumps(record) + "\n" for record in found)
            for dialect, found in records.items()
        }
        texts["pink"] = json.dumps(records["pink"])
        texts["ofa"] = "".join("\t".join(cells) + "\n" for cells in records["ofa"])
        for dialect, text in texts.items():
            path = os.path.join(self.folder, _name(dialect, split))
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return [_name(dialect, split) for dialect in _FILES]

    def readers(self, split: str) -> list[dict]:
        """Return a dataset per dialect."""
        return [
            dict(
                type="FlatReferringDataset",
                data_root=self.folder,
                ann_file=_name(dialect, split),
                image_prefix="images",
                dialect=dialect,
                name=f"{dialect}-{split}",
            )
            for dialect in _FILES
        ]

    def _records(self, sample: SceneSample) -> dict[str, list]:
        image_id, size = image_number(sample), sample.scene.size
        path = self.image_path(sample).removeprefix("images/")
        _, data = cv2.imencode(f".{self.image_format}", sample.image()[..., ::-1])
        image = base64.urlsafe_b64encode(data.tobytes()).decode()
        found: dict[str, list] = {dialect: [] for dialect in _FILES}
        texts = [
            (item, text) for item in sample.scene.objects for text in expressions(item)
        ]
        for number, (item, text) in enumerate(texts):
            exp_id, box = image_id * 100 + number, list(item.box)
            side = dict(width=size, height=size)
            found["shikra"].append(dict(img_path=path, expression=text, bbox=box))
            found["pink"].append(
                dict(
                    image_id=path, sentence=text, bbox=box, exp_id=exp_id, ref_id=exp_id
                )
            )
            found["qwen_vl"].append(dict(image=path, sent=text, bbox=box, **side))
            corners = ",".join(f"{value:.1f}" for value in box)
            found["ofa"].append([str(exp_id), str(image_id), text, corners, image])
        return found


def _name(dialect: str, split: str) -> str:
    return f"{_ROOT}/{_FILES[dialect].format(split)}"
