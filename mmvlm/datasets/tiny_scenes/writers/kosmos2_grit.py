"""Kosmos-2's GRIT: captions with grounded phrases, JSON lines and parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import grounded_caption, image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

_ROOT = "kosmos2_grit"
_SCORE = 0.875


@SCENE_WRITERS.register_module(name="kosmos2_grit")
class Kosmos2GRITWriter(SceneWriter):
    """Write the captions of the scenes as JSON lines and as parquet.

    Noun chunks are ``a red circle``, referring expressions ``a red circle at the top
    left``. Images lie as img2dataset puts them: ``00000/000000012.jpg``.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write both files and the images of a split."""
        import pyarrow
        import pyarrow.parquet

        rows = [self._row(sample) for sample in samples]
        for sample, row in zip(samples, rows, strict=True):
            key = row["key"]
            path = f"{_ROOT}/images/{key[:5]}/{key}.{self.image_format}"
            full = os.path.join(self.folder, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            self._write_image(sample, full)
        files = _files(split)
        lines, table = (os.path.join(self.folder, name) for name in files)
        with open(lines, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
        return files

    def readers(self, split: str) -> list[dict]:
        """Return a dataset per file."""
        return [
            dict(
                type="Kosmos2GRITDataset",
                data_root=self.folder,
                ann_file=name,
                image_prefix=f"{_ROOT}/images",
                image_pattern=f"{{shard}}/{{key}}.{self.image_format}",
            )
            for name in _files(split)
        ]

    def _row(self, sample: SceneSample) -> dict:
        scene, number = sample.scene, image_number(sample)
        text, spans = grounded_caption(scene)
        chunks, expressions = [], []
        for item, (start, end) in zip(scene.objects, spans, strict=True):
            where = [*(side / scene.size for side in item.box), _SCORE]
            chunks.append([float(start), float(end), *where])
            end += len(f" at the {item.position}")
            expressions.append([float(start), float(end), *where])
        return dict(
            key=f"{number:09d}",
            clip_similarity_vitb32=0.25,
            clip_similarity_vitl14=0.25,
            id=10**12 + number,
            url=f"https://tiny-scenes.invalid/{number}.jpg",
            caption=text,
            width=scene.size,
            height=scene.size,
            noun_chunks=chunks,
            ref_exps=expressions,
        )


def _files(split: str) -> list[str]:
    return [f"{_ROOT}/grit_{split}.jsonl", f"{_ROOT}/coyo_{split}_snappy.parquet"]
