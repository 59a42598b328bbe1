"""TextVQA's questions and the tokens of its OCR system."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import (
    question_number,
    questions_of,
    read_tokens,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

_SPLITS = {"train": "train", "test": "val"}


def image_key(sample: SceneSample) -> str:
    """Return an id like those of Open Images: sixteen hexadecimal digits."""
    return f"{image_number(sample):016x}"


@SCENE_WRITERS.register_module(name="textvqa")
class TextVQAWriter(OwnImagesWriter):
    """Write ``TextVQA_0.5.1_*.json`` and ``TextVQA_Rosetta_OCR_v0.2_*.json``."""

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image."""
        return f"textvqa/train_images/{image_key(sample)}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write questions and tokens."""
        rows, tokens = [], []
        for sample in samples:
            image = image_key(sample)
            words = read_tokens(sample)
            tokens.append(
                dict(image_id=image, ocr_tokens=words, ocr_info=[], set_name="ocr")
            )
            for number, question in enumerate(questions_of(sample)):
                rows.append(
                    dict(
                        question=question.text,
                        image_id=image,
                        image_classes=["Drawing"],
                        flickr_original_url="https://tiny-scenes.invalid",
                        image_width=sample.scene.size,
                        image_height=sample.scene.size,
                        answers=[question.answer] * 10,
                        question_tokens=question.text.lower().rstrip("?.").split(),
                        question_id=question_number(sample, number),
                        set_name=_SPLITS[split],
                    )
                )
        head = dict(dataset_type=_SPLITS[split], dataset_name="textvqa")
        names = self._names(split)
        return [
            self.dump(names[0], {**head, "dataset_version": "0.5.1", "data": rows}),
            self.dump(names[1], {**head, "dataset_version": "0.2", "data": tokens}),
        ]

    def _names(self, split: str) -> tuple[str, str]:
        name = _SPLITS[split]
        return (
            f"textvqa/TextVQA_0.5.1_{name}.json",
            f"textvqa/TextVQA_Rosetta_OCR_v0.2_{name}.json",
        )

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split, with and without tokens."""
        questions, tokens = self._names(split)
        plain = dict(
            type="TextVQADataset",
            data_root=self.folder,
            ann_file=questions,
            image_prefix="textvqa/train_images",
            image_name=f"{{image_id}}.{self.image_format}",
        )
        return [plain, {**plain, "ocr_file": tokens, "name": "textvqa-ocr"}]
