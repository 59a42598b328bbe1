"""A-OKVQA's file per split."""

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

_SPLITS = {"train": ("train", "train2017"), "test": ("val", "val2017")}


@SCENE_WRITERS.register_module(name="aokvqa")
class AOKVQAWriter(OwnImagesWriter):
    """Write ``aokvqa/aokvqa_v1p0_<split>.json``: choices, answers and rationales."""

    def image_path(self, sample: SceneSample) -> str:
        """Return COCO's path of 2017."""
        folder = _SPLITS[sample.id.split("-")[0]][1]
        return f"{folder}/{image_number(sample):012d}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the list of questions."""
        rows = []
        for sample in samples:
            for number, question in enumerate(questions_of(sample)):
                choices, place = choices_of(sample, number)
                rows.append(
                    dict(
                        split=_SPLITS[split][0],
                        image_id=image_number(sample),
                        question_id=f"{question_number(sample, number):022x}",
                        question=question.text,
                        choices=choices,
                        correct_choice_idx=place,
                        direct_answers=[question.answer] * 10,
                        difficult_direct_answer=False,
                        rationales=[reason_of(sample)] * 3,
                    )
                )
        return [self.dump(self._name(split), rows)]

    def _name(self, split: str) -> str:
        return f"aokvqa/aokvqa_v1p0_{_SPLITS[split][0]}.json"

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="AOKVQADataset",
                data_root=self.folder,
                ann_file=self._name(split),
                image_prefix=_SPLITS[split][1],
                image_name=f"{{image_id:012d}}.{self.image_format}",
            )
        ]
