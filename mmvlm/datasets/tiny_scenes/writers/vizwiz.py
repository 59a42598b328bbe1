"""VizWiz's list per split."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import (
    absent_colour,
    answer_type,
    questions_of,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

_SPLITS = {"train": "train", "test": "val"}


@SCENE_WRITERS.register_module(name="vizwiz")
class VizWizWriter(OwnImagesWriter):
    """Write ``vizwiz/<split>.json``: one question per image.

    Every fourth image is asked about a thing that it does not show.
    """

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image."""
        name = _SPLITS[sample.id.split("-")[0]]
        number = image_number(sample)
        return f"vizwiz/{name}/VizWiz_{name}_{number:08d}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the list of questions."""
        rows = []
        for sample in samples:
            short = (q for q in questions_of(sample) if q.task != "finding")
            question = next(short, None)
            image = self.image_path(sample).rpartition("/")[2]
            if question is None or image_number(sample) % 4 == 0:
                text = f"Where is the {absent_colour(sample)} object?"
                answer, kind, can = "unanswerable", "unanswerable", 0
            else:
                text, answer, can = question.text, question.answer, 1
                kind = answer_type(question)
            answers = [dict(answer_confidence="yes", answer=answer) for _ in range(10)]
            rows.append(
                dict(
                    image=image,
                    question=text,
                    answers=answers,
                    answer_type=kind,
                    answerable=can,
                )
            )
        return [self.dump(f"vizwiz/{_SPLITS[split]}.json", rows)]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        name = _SPLITS[split]
        return [
            dict(
                type="VizWizDataset",
                data_root=self.folder,
                ann_file=f"vizwiz/{name}.json",
                image_prefix=f"vizwiz/{name}",
            )
        ]
