"""LLaVA-1.5's mixture of instructions, and LLaVA-NeXT's of several images."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.tasks import Question
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

MIX = "llava_v1_5_mix665k.json"
SEVERAL = "llava_next_interleave.json"
SHORT = "Answer the question using a single word or phrase."
_FOLDERS = ("coco/train2017/{:012d}", "gqa/images/{}", "vg/VG_100K_2/{}")


@SCENE_WRITERS.register_module(name="llava_mix")
class LLaVAMixWriter(OwnImagesWriter):
    """Write ``llava_v1_5_mix665k.json`` and ``llava_next_interleave.json``.

    As in the public files: ids are numbers or texts and come again, records without an
    image have ``model`` (which may be empty), the line that asks for a short answer
    stands in the first question of a dialogue. There is no test split.
    """

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image in one of three sets."""
        number = image_number(sample)
        path = _FOLDERS[number % len(_FOLDERS)].format(number)
        return f"playground/data/{path}.{self.image_format}"

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write images and files of the training split."""
        return super().write(split, samples) if split == "train" else []

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write both lists of conversations."""
        rows: list[dict] = []
        for number, sample in enumerate(samples):
            image = self._image(sample)
            name = image.rpartition("/")[2].partition(".")[0]
            key = int(name, 10) if number % 2 else name
            talk = turns(questions_of(sample), head="<image>\n", tail=f"\n{SHORT}")
            rows.append(dict(id=key, image=image, conversations=talk))
            if number % 3 == 0:
                model = "gpt-4" if number % 2 else ""
                words = turns(questions_of(sample), head=f"{sample.caption}.\n")
                rows.append(dict(id=key, model=model, conversations=words))
        several = [
            self._pair(first, second)
            for first, second in zip(samples[::2], samples[1::2], strict=False)
        ]
        return [self.dump(MIX, rows), self.dump(SEVERAL, several)]

    def _image(self, sample: SceneSample) -> str:
        return self.image_path(sample).removeprefix("playground/data/")

    def _pair(self, first: SceneSample, second: SceneSample) -> dict:
        conversation = [
            {
                "from": "human",
                "value": "First: <image> Second: <image>\nWhat is first?",
            },
            {"from": "gpt", "value": first.caption},
            {"from": "human", "value": "And the second?"},
            {"from": "gpt", "value": second.caption},
        ]
        return dict(
            id=f"{first.id}-{second.id}",
            image=[self._image(first), self._image(second)],
            conversations=conversation,
            data_source="tiny_scenes",
        )

    def readers(self, split: str) -> list[dict]:
        """Return the datasets of both files."""
        if split == "test":
            return []
        return [
            dict(
                type="LLaVADataset",
                data_root=self.folder,
                ann_file=name,
                image_prefix="playground/data",
            )
            for name in (MIX, SEVERAL)
        ]


def turns(
    questions: Sequence[Question], *, head: str = "", tail: str = ""
) -> list[dict]:
    """Write a dialogue; ``head`` and ``tail`` frame its first question."""
    out = []
    for number, question in enumerate(questions):
        text = question.text if number else f"{head}{question.text}{tail}"
        out.append({"from": "human", "value": text})
        out.append({"from": "gpt", "value": question.answer})
    return out
