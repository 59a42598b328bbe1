"""ScienceQA's problems and splits."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import (
    choices_of,
    question_number,
    questions_of,
    reason_of,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

_PROBLEMS, _SPLITS = "scienceqa/problems.json", "scienceqa/pid_splits.json"
_LECTURE = "A scene has at most one object in each cell."


@SCENE_WRITERS.register_module(name="scienceqa")
class ScienceQAWriter(OwnImagesWriter):
    """Write ``problems.json`` and ``pid_splits.json``, both of all splits.

    Every second question has an image; the others have a hint that says what the
    image shows.
    """

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of the image of a sample's questions."""
        split, number = sample.id.split("-")[0], question_number(sample, 0)
        return f"scienceqa/images/{split}/{number}/image.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write problems and splits, keeping the other split."""
        splits = {**self.load(_SPLITS, {}), split: []}
        problems = {
            key: problem
            for key, problem in self.load(_PROBLEMS, {}).items()
            if problem["split"] != split
        }
        for sample in samples:
            # An image belongs to one problem, so there is one with it per sample.
            for number in range(min(2, len(questions_of(sample)))):
                key = str(question_number(sample, number))
                splits[split].append(key)
                problems[key] = self._problem(sample, number, split)
        return [self.dump(_PROBLEMS, problems), self.dump(_SPLITS, splits)]

    def _problem(self, sample: SceneSample, number: int, split: str) -> dict:
        question = questions_of(sample)[number]
        choices, place = choices_of(sample, number)
        shown = number == 0
        return dict(
            question=question.text,
            choices=choices,
            answer=place,
            hint="" if shown else reason_of(sample),
            image=f"image.{self.image_format}" if shown else None,
            task="closed choice",
            grade=f"grade{image_number(sample) % 12 + 1}",
            subject="natural science",
            topic=question.task,
            category=question.form,
            skill=question.task,
            lecture=_LECTURE if number == 0 else "",
            solution=f"{reason_of(sample)} So it is {question.answer}.",
            split=split,
        )

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="ScienceQADataset",
                data_root=self.folder,
                ann_file=_PROBLEMS,
                split_file=_SPLITS,
                split=split,
                image_prefix="scienceqa/images",
            )
        ]
