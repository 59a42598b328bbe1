"""OBELICS' documents."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .mmc4 import documents, sentences
from .own_images import OwnImagesWriter

_MAP = "obelics/images.json"


@SCENE_WRITERS.register_module(name="obelics")
class OBELICSWriter(OwnImagesWriter):
    """Write documents as Parquet and as JSON lines, and a map of their URLs.

    The files are ``obelics/<split>-00000-of-00001.*`` and ``obelics/images.json``,
    which holds both splits.
    """

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image."""
        return f"obelics/images/{image_number(sample):08d}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write documents and map."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        urls = {_url(s): self.image_path(s).rpartition("/")[2] for s in samples}
        rows = [_row(scenes) for scenes in documents(samples)]
        names = [self._name(split, kind) for kind in ("parquet", "jsonl")]
        self.dump(_MAP, {**self.load(_MAP, {}), **urls})
        table = pa.Table.from_pylist(rows)
        pq.write_table(table, os.path.join(self.folder, names[0]), row_group_size=4)
        with open(os.path.join(self.folder, names[1]), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return [_MAP, *names]

    def _name(self, split: str, kind: str) -> str:
        return f"obelics/{split}-00000-of-00001.{kind}"

    def readers(self, split: str) -> list[dict]:
        """Return the datasets of both kinds of files."""
        return [
            dict(
                type="OBELICSDataset",
                data_root=self.folder,
                ann_file=self._name(split, kind),
                image_map=_MAP,
                image_prefix="obelics/images",
                name=f"obelics-{kind}",
            )
            for kind in ("parquet", "jsonl")
        ]


def _url(sample: SceneSample) -> str:
    return f"https://tiny-scenes.invalid/{sample.id}.jpg"


def _row(scenes: list[SceneSample]) -> dict:
    opening, *rest = sentences(scenes)
    images: list[str | None] = [None]
    texts: list[str | None] = [opening]
    for scene, text in zip(scenes, rest, strict=True):
        images += [_url(scene), None]
        texts += [None, text]
    facts = dict(url=f"https://tiny-scenes.invalid/{scenes[0].id}", warc_filename="a")
    return dict(
        images=images,
        metadata=json.dumps([None if url is None else {"src": url} for url in images]),
        general_metadata=json.dumps(facts),
        texts=texts,
    )
