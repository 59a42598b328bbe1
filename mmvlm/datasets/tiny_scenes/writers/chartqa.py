"""ChartQA's two files per split."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

_PARTS = ("human", "augmented")


@SCENE_WRITERS.register_module(name="chartqa")
class ChartQAWriter(OwnImagesWriter):
    """Write ``<split>/<split>_<part>.json``, questions dealt to the parts in turn."""

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image."""
        split, number = sample.id.split("-")
        return f"chartqa/{split}/png/{number}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write both parts."""
        rows = [
            dict(
                imgname=self.image_path(sample).rpartition("/")[2],
                query=question.text,
                label=question.answer,
            )
            for sample in samples
            for question in questions_of(sample)
        ]
        return [
            self.dump(f"chartqa/{split}/{split}_{part}.json", rows[number::2])
            for number, part in enumerate(_PARTS)
        ]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of both parts of a split."""
        return [
            dict(
                type="ChartQADataset",
                data_root=f"{self.folder}/chartqa",
                ann_file=f"{split}/{split}_{{{','.join(_PARTS)}}}.json",
                image_prefix=f"{split}/png",
            )
        ]
