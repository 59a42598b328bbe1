"""MM-Vet's file."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import BenchmarkWriter

_CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")


@SCENE_WRITERS.register_module(name="mm_vet")
class MMVetWriter(BenchmarkWriter):
    """Write ``mm-vet.json``; every second answer has two elements."""

    home = "mm-vet"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the objects of questions by id."""
        table: dict[str, dict] = {}
        for sample in samples:
            for question in questions_of(sample):
                number = len(table)
                answer = question.answer
                table[f"v1_{number}"] = dict(
                    imagename=self.image_name(sample),
                    question=question.text,
                    answer=f"{answer}<OR>the {answer}" if number % 2 else answer,
                    imagesource="drawn",
                    capability=list(_CAPABILITIES[number % 5 : number % 5 + 2]),
                )
        return [self.dump(f"{self.home_of(split)}/mm-vet.json", table)]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="MMVetDataset",
                data_root=f"{self.folder}/{self.home_of(split)}",
                ann_file="mm-vet.json",
                image_prefix="images",
            )
        ]
