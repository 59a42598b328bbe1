"""GQA's questions: a file for the test, a folder of parts for training."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import question_number, questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.tasks import Question
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

_PARTS = 2
_FILES = {
    "train": "gqa/train_all_questions",
    "test": "gqa/testdev_balanced_questions.json",
}


@SCENE_WRITERS.register_module(name="gqa")
class GQAWriter(OwnImagesWriter):
    """Write ``train_all_questions/*_<part>.json`` and ``testdev_balanced_questions``.

    Every third training question is not balanced.
    """

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image: its id is its name."""
        return f"gqa/images/{image_number(sample)}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the objects of questions by id."""
        table = {}
        for sample in samples:
            for number, question in enumerate(questions_of(sample)):
                key = f"{question_number(sample, number):08d}"
                balanced = split == "test" or len(table) % 3 != 2
                table[key] = _question(sample, question, key, balanced)
        if split == "test":
            return [self.dump(_FILES[split], table)]
        files = []
        for part in range(_PARTS):
            keys = list(table)[part::_PARTS]
            name = f"{_FILES[split]}/train_all_questions_{part}.json"
            files.append(self.dump(name, {key: table[key] for key in keys}))
        return files

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="GQADataset",
                data_root=self.folder,
                ann_file=_FILES[split],
                image_prefix="gqa/images",
                image_name=f"{{image_id}}.{self.image_format}",
            )
        ]


def _question(
    sample: SceneSample, question: Question, key: str, balanced: bool
) -> dict:
    answer = question.answer
    structural = "verify" if answer in ("yes", "no") else "query"
    sentence = {"yes": "Yes, there is.", "no": "No, there is not."}
    return dict(
        question=question.text,
        imageId=str(image_number(sample)),
        answer=answer,
        fullAnswer=sentence.get(answer, f"It is {answer}."),
        isBalanced=balanced,
        groups={"global": question.form, "local": f"{question.task}-{question.form}"},
        types=dict(structural=structural, semantic="obj", detailed=question.task),
        semantic=[dict(operation="select", argument="scene", dependencies=[])],
        semanticStr="select: scene",
        entailed=[key],
        equivalent=[key],
        annotations=dict(question={}, answer={}, fullAnswer={}),
    )
