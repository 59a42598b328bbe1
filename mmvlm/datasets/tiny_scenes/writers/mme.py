"""MME's folders of tasks."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import yes_no_pair
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import BenchmarkWriter

#: Every task of the public set, so that all sums can be formed.
TASKS = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene"),
    *("landmark", "artwork", "OCR", "commonsense_reasoning"),
    *("numerical_calculation", "text_translation", "code_reasoning"),
)


@SCENE_WRITERS.register_module(name="mme")
class MMEWriter(BenchmarkWriter):
    """Write a folder per task, images dealt among them in turn.

    Every second task keeps images and texts apart, as in the public release; so
    there are as many tasks as images, fourteen at most.
    """

    home = "mme/MME_Benchmark_release_version"

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image in the folder of its task."""
        number = int(sample.id.split("-")[1]) % len(TASKS)
        middle = "" if number % 2 else "images/"
        home = self.home_of(sample.id.split("-")[0])
        return f"{home}/{TASKS[number]}/{middle}{self.image_name(sample)}"

    def home_of(self, split: str) -> str:
        """Return the folder of the tasks of a split."""
        return self.home if split == "test" else "mme/train"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write a text with two questions for each image."""
        names = []
        for sample in samples:
            path = self.image_path(sample).replace("/images/", "/questions_answers_YN/")
            names.append(f"{os.path.splitext(path)[0]}.txt")
            lines = [
                f"{question.text} Please answer yes or no.\t{question.answer.title()}"
                for question in yes_no_pair(sample)
            ]
            full = os.path.join(self.folder, names[-1])
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n" * (image_number(sample) % 2))
        return names

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        home = self.home_of(split)
        return [dict(type="MMEDataset", data_root=self.folder, ann_file=home)]
