"""OCR-VQA's one file of all splits."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

_FILE = "ocr_vqa/dataset.json"
_SPLITS = {"train": ("train", 1), "test": ("test", 3)}


@SCENE_WRITERS.register_module(name="ocr_vqa")
class OCRVQAWriter(OwnImagesWriter):
    """Write ``ocr_vqa/dataset.json``; writing a split replaces what it says of it."""

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image: ten digits, as an ISBN has."""
        return f"ocr_vqa/images/{image_number(sample):010d}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the books, keeping those of other splits."""
        number = _SPLITS[split][1]
        kept = self.load(_FILE, {}).items()
        books = {key: book for key, book in kept if book["split"] != number}
        for sample in samples:
            questions = questions_of(sample)
            if questions:
                books[f"{image_number(sample):010d}"] = dict(
                    imageURL="https://tiny-scenes.invalid/cover.jpg",
                    genre="Scenes",
                    questions=[question.text for question in questions],
                    answers=[question.answer for question in questions],
                    split=number,
                    title=sample.caption,
                    authorName="",
                )
        return [self.dump(_FILE, books)]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="OCRVQADataset",
                data_root=self.folder,
                ann_file=_FILE,
                split=_SPLITS[split][0],
                image_prefix="ocr_vqa/images",
                image_name=f"{{image_id}}.{self.image_format}",
            )
        ]
