"""OCRBench's list."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import BenchmarkWriter

#: Kinds of questions of the public set, each with one of its datasets.
KINDS = (
    ("Regular Text Recognition", "IIIT5K"),
    ("Scene Text-centric VQA", "STVQA"),
    ("Doc-oriented VQA", "docVQA"),
    ("Key Information Extraction", "SROIE"),
    ("Handwritten Mathematical Expression Recognition", "HME100k"),
)


@SCENE_WRITERS.register_module(name="ocrbench")
class OCRBenchWriter(BenchmarkWriter):
    """Write ``OCRBench.json``; every third question has a list of answers."""

    home, images = "ocrbench", "OCRBench_Images"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the list of questions."""
        rows: list[dict] = []
        for sample in samples:
            for question in questions_of(sample):
                number = len(rows)
                kind, source = KINDS[number % len(KINDS)]
                several = [question.answer, f"{question.answer}."]
                rows.append(
                    dict(
                        dataset_name=source,
                        type=kind,
                        id=number // len(KINDS),
                        image_path=self.image_name(sample),
                        question=question.text,
                        answers=question.answer if number % 3 else several,
                    )
                )
        return [self.dump(f"{self.home_of(split)}/OCRBench.json", rows)]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="OCRBenchDataset",
                data_root=f"{self.folder}/{self.home_of(split)}",
                ann_file="OCRBench.json",
                image_prefix=self.images,
            )
        ]
