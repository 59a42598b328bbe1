"""WebDataset's tar shards."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence

import cv2

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

_PER_SHARD = 20


def encoded_image(sample: SceneSample, image_format: str) -> bytes:
    """Return the file of a sample's image."""
    done, data = cv2.imencode(f".{image_format}", sample.image()[..., ::-1])
    if not done:
        raise OSError(f"could not encode the image of '{sample.id}'.")
    return data.tobytes()


def talk_of(sample: SceneSample) -> list[dict]:
    """Return a sample's questions as LLaVA's turns."""
    turns = []
    for number, question in enumerate(questions_of(sample)):
        text = question.text if number else f"<image>\n{question.text}"
        turns.append({"from": "human", "value": text})
        turns.append({"from": "gpt", "value": question.answer})
    return turns


@SCENE_WRITERS.register_module(name="web_shards")
class WebShardWriter(SceneWriter):
    """Write ``shards/<split>-<number>.tar``: image, caption and JSON of each scene.

    Images are inside the shards only.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the shards of a split."""
        os.makedirs(os.path.join(self.folder, "shards"), exist_ok=True)
        files = []
        for number, start in enumerate(range(0, len(samples), _PER_SHARD)):
            name = f"shards/{split}-{number:05d}.tar"
            path = os.path.join(self.folder, name)
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
                for sample in samples[start : start + _PER_SHARD]:
                    self._add(shard, sample)
            files.append(name)
        return files

    def _add(self, shard: tarfile.TarFile, sample: SceneSample) -> None:
        key = f"{image_number(sample):09d}"
        facts = dict(
            key=key,
            caption=sample.caption,
            width=sample.scene.size,
            height=sample.scene.size,
            sample=sample.id,
            conversations=talk_of(sample),
        )
        members = {
            self.image_format: encoded_image(sample, self.image_format),
            "txt": sample.caption.encode(),
            "json": json.dumps(facts).encode(),
        }
        for extension, data in members.items():
            entry = tarfile.TarInfo(f"{key}.{extension}")
            entry.size = len(data)
            shard.addfile(entry, io.BytesIO(data))

    def readers(self, split: str) -> list[dict]:
        """Return the datasets of captions and, of training, of conversations."""
        common = dict(
            type="WebShardDataset",
            data_root=self.folder,
            ann_file=f"shards/{split}-*.tar",
        )
        columns = dict(
            image="jpg;png", conversations="json.conversations", meta=["json.sample"]
        )
        talks = dict(**common, name=f"{split}-talks", columns=columns)
        return [common, talks] if split == "train" else [common]
