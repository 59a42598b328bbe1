"""SEED-Bench's file."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import (
    choices_of,
    letter_of,
    question_number,
    questions_of,
    with_choices,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import BenchmarkWriter

#: Kinds of questions and their numbers in the public set; above 9 of videos.
TYPES = {
    "Scene Understanding": 1,
    "Instance Attributes": 3,
    "Instances Counting": 5,
    "Action Recognition": 10,
}


@SCENE_WRITERS.register_module(name="seed_bench")
class SEEDBenchWriter(BenchmarkWriter):
    """Write ``SEED-Bench.json``; every fourth image is the frame of a video."""

    home = "seed_bench"

    def _is_frame(self, sample: SceneSample) -> bool:
        return image_number(sample) % 4 == 0

    def _frame_id(self, sample: SceneSample) -> str:
        return f"v{question_number(sample, 0)}"

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image or frame."""
        kind = "video-image" if self._is_frame(sample) else "image"
        home = self.home_of(sample.id.split("-")[0])
        name = self.image_name(sample)
        if self._is_frame(sample):
            name = f"{self._frame_id(sample)}.{self.image_format}"
        return f"{home}/SEED-Bench-{kind}/{name}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the questions that have four choices; of a frame the first."""
        rows = []
        for sample in samples:
            frame = self._is_frame(sample)
            found = with_choices(sample, 4)
            for number in found[:1] if frame else found:
                choices, place = choices_of(sample, number)
                key = question_number(sample, number)
                rows.append(
                    dict(
                        question=questions_of(sample)[number].text,
                        **{
                            f"choice_{c}": t
                            for c, t in zip("abcd", choices, strict=True)
                        },
                        answer=letter_of(place),
                        data_type="video" if frame else "image",
                        data_id=self.image_name(sample),
                        question_id=self._frame_id(sample) if frame else str(key),
                        question_type_id=10 if frame else (1, 3, 5)[number % 3],
                    )
                )
        table = dict(question_type=TYPES, questions=rows)
        return [self.dump(f"{self.home_of(split)}/SEED-Bench.json", table)]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="SEEDBenchDataset",
                data_root=f"{self.folder}/{self.home_of(split)}",
                ann_file="SEED-Bench.json",
                frame_name=f"SEED-Bench-video-image/{{image_id}}.{self.image_format}",
            )
        ]
