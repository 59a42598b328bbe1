"""The files of DocVQA and InfographicVQA."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.questions import question_number, questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import BenchmarkWriter

_SPLITS = {"train": "train", "test": "val"}


@SCENE_WRITERS.register_module(name="doc_vqa")
class DocVQAWriter(BenchmarkWriter):
    """Write ``spdocvqa_qas/val_v1.0_withQT.json`` and ``spdocvqa_images``.

    Args:
        folder (str): root of the dataset.
        image_format (str): ``jpg`` or ``png``.
        infographics (bool): write InfographicVQA's file instead.
    """

    home = "docvqa"

    def __init__(
        self, folder: str, image_format: str = "jpg", *, infographics: bool = False
    ) -> None:
        super().__init__(folder, image_format)
        if infographics:
            self.home, self.images = "infovqa", "infographicsvqa_images"
            self.file_name = "infographicsvqa_qas/infographicsVQA_{}_v1.0_withQT.json"
            self.field, self.inside = "image_local_name", ""
        else:
            self.images = "spdocvqa_images/documents"
            self.file_name = "spdocvqa_qas/{}_v1.0_withQT.json"
            self.field, self.inside = "image", "documents/"

    def home_of(self, split: str) -> str:
        """Return the folder that both splits share."""
        return self.home

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write questions, each with two forms of its answer."""
        rows = [
            {
                "questionId": question_number(sample, number),
                "question": question.text,
                self.field: f"{self.inside}{self.image_name(sample)}",
                "answers": [question.answer, f"the {question.answer}"],
                "data_split": _SPLITS[split],
            }
            for sample in samples
            for number, question in enumerate(questions_of(sample))
        ]
        head = dict(dataset_name=self.home, dataset_split=_SPLITS[split])
        name = f"{self.home}/{self.file_name.format(_SPLITS[split])}"
        return [self.dump(name, {**head, "data": rows})]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        folder = self.images.removesuffix(self.inside.rstrip("/")).rstrip("/")
        return [
            dict(
                type="DocVQADataset",
                data_root=f"{self.folder}/{self.home}",
                ann_file=self.file_name.format(_SPLITS[split]),
                image_prefix=folder,
            )
        ]
