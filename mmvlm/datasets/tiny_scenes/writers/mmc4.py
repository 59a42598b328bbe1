"""MMC4's documents."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

PER_DOCUMENT = 3
_PER_SHARD = 20
#: The last image of a document fits its text badly.
_SIMILARITIES = (0.31, 0.27, 0.12)


def documents(samples: Sequence[SceneSample]) -> Iterator[list[SceneSample]]:
    """Yield the scenes of each document."""
    for start in range(0, len(samples), PER_DOCUMENT):
        yield list(samples[start : start + PER_DOCUMENT])


def sentences(scenes: Sequence[SceneSample]) -> list[str]:
    """Return the texts of a document: an opening, then a sentence per image."""
    opening = f"Here are {len(scenes)} pictures."
    return [opening, *(f"This one shows {scene.caption}." for scene in scenes)]


@SCENE_WRITERS.register_module(name="mmc4")
class MMC4Writer(OwnImagesWriter):
    """Write ``mmc4/docs_shard_<n>_v2.jsonl``; the test split is in a folder of its own.

    A document shows three scenes.
    """

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image."""
        return f"mmc4/images/{image_number(sample):012x}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the shards of documents."""
        files = []
        rows = [self._row(scenes) for scenes in documents(samples)]
        for number, start in enumerate(range(0, len(rows), _PER_SHARD)):
            name = f"mmc4/{split}/docs_shard_{number}_v2.jsonl"
            path = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                for row in rows[start : start + _PER_SHARD]:
                    file.write(json.dumps(row) + "\n")
            files.append(name)
        return files

    def _row(self, scenes: list[SceneSample]) -> dict:
        info = [
            dict(
                image_name=self.image_path(scene).rpartition("/")[2],
                raw_url="https://tiny-scenes.invalid/a.jpg",
                matched_text_index=number + 1,
                matched_sim=_SIMILARITIES[number],
                face_detections=None,
            )
            for number, scene in enumerate(scenes)
        ]
        texts = sentences(scenes)
        return dict(
            url=f"https://tiny-scenes.invalid/{scenes[0].id}",
            text_list=texts,
            image_info=info[::-1],  # not in the order of the texts
            similarity_matrix=[[0.1] * len(texts)] * len(info),
            could_have_url_duplicate=0,
        )

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="MMC4Dataset",
                data_root=self.folder,
                ann_file=f"mmc4/{split}/docs_shard_*_v2.jsonl",
                image_prefix="mmc4/images",
            )
        ]
