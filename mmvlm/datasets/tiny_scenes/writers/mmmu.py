"""MMMU's Parquet files, one per subject."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2

from mmvlm.datasets.tiny_scenes.questions import choices_of, letter_of, questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

_SPLITS = {"train": "dev", "test": "validation"}
_SUBJECTS = ("Accounting", "Art", "Biology")
_TEXTS = (
    *("id", "question", "options", "answer", "question_type"),
    *("topic_difficulty", "subfield"),
)


@SCENE_WRITERS.register_module(name="mmmu")
class MMMUWriter(OwnImagesWriter):
    """Write ``<Subject>/validation-00000-of-00001.parquet``.

    Images are dealt to three subjects; every third question is open, every fourth
    one has two images.
    """

    def write_images(self, samples: Sequence[SceneSample]) -> int:
        """Write nothing: images lie in the tables."""
        return 0

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write a table per subject."""
        return [
            self._write(split, subject, samples[number :: len(_SUBJECTS)])
            for number, subject in enumerate(_SUBJECTS)
        ]

    def _write(self, split: str, subject: str, samples: Sequence[SceneSample]) -> str:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows: list[dict] = []
        for sample in samples:
            for place, question in enumerate(questions_of(sample)):
                number = len(rows)
                choices, right = choices_of(sample, place)
                is_open = number % 3 == 2
                _, content = cv2.imencode(".png", sample.image()[..., ::-1])
                image = dict(bytes=content.tobytes(), path=f"{number}.png")
                rows.append(
                    dict(
                        id=f"{_SPLITS[split]}_{subject}_{number + 1}",
                        question=f"<image 1> {question.text}",
                        options=repr([] if is_open else choices),
                        answer=question.answer if is_open else letter_of(right),
                        question_type="open" if is_open else "multiple-choice",
                        topic_difficulty="Easy",
                        subfield=question.task,
                        image_1=image,
                        image_2=None if number % 4 else image,
                    )
                )
        name = f"mmmu/{subject}/{_SPLITS[split]}-00000-of-00001.parquet"
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        kind = pa.struct(dict(bytes=pa.binary(), path=pa.string()).items())
        fields = [(name, pa.string()) for name in _TEXTS]
        schema = pa.schema([*fields, ("image_1", kind), ("image_2", kind)])
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
        return name

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of all subjects."""
        return [
            dict(
                type="MMMUDataset",
                data_root=self.folder,
                ann_file=f"mmmu/*/{_SPLITS[split]}-*.parquet",
            )
        ]
