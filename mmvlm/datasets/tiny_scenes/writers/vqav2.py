"""VQAv2's two files per split."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import (
    answer_type,
    question_number,
    question_type,
    questions_of,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

_SPLITS = {"train": "train2014", "test": "val2014"}


@SCENE_WRITERS.register_module(name="vqav2")
class VQAv2Writer(OwnImagesWriter):
    """Write ``v2_OpenEnded_mscoco_*_questions.json`` and ``v2_mscoco_*_annotations``.

    Nine of ten people answer alike; the tenth is unsure and says ``maybe``.
    """

    reader = "VQAv2Dataset"
    questions_name = "v2_OpenEnded_mscoco_{}_questions.json"
    answers_name = "v2_mscoco_{}_annotations.json"

    def image_path(self, sample: SceneSample) -> str:
        """Return COCO's path of 2014."""
        split = _SPLITS[sample.id.split("-")[0]]
        number = image_number(sample)
        return f"{split}/COCO_{split}_{number:012d}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write questions and annotations."""
        questions, annotations = [], []
        for sample in samples:
            for number, question in enumerate(questions_of(sample)):
                ids = dict(
                    image_id=image_number(sample),
                    question_id=question_number(sample, number),
                )
                questions.append({**ids, "question": question.text})
                annotations.append(
                    {
                        "question_type": question_type(question),
                        "multiple_choice_answer": question.answer,
                        "answers": [
                            self._answer(question.answer, n) for n in range(10)
                        ],
                        "answer_type": answer_type(question),
                        **ids,
                    }
                )
        name = _SPLITS[split]
        head = dict(info={}, license={}, data_type="mscoco", data_subtype=name)
        return [
            self.dump(
                self.questions_name.format(name),
                {**head, "task_type": "Open-Ended", "questions": questions},
            ),
            self.dump(
                self.answers_name.format(name), {**head, "annotations": annotations}
            ),
        ]

    def _answer(self, answer: str, number: int) -> dict:
        sure = number != 3
        return dict(
            answer=answer if sure else "maybe",
            answer_confidence="yes" if sure else "maybe",
            answer_id=number + 1,
        )

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        name = _SPLITS[split]
        return [
            dict(
                type=self.reader,
                data_root=self.folder,
                ann_file=self.questions_name.format(name),
                answer_file=self.answers_name.format(name),
                image_prefix=name,
                image_name=f"COCO_{name}_{{image_id:012d}}.{self.image_format}",
            )
        ]
