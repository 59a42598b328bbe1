"""LLaVA's 595 thousand images of CC3M."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .coco_captions import captions_of
from .own_images import OwnImagesWriter

_ASK = ("Render a clear and concise summary of the photo.", "What is this?")


@SCENE_WRITERS.register_module(name="cc3m")
class CC3MWriter(OwnImagesWriter):
    """Write ``cc3m/chat.json`` and ``cc3m/metadata.json``; there is no test split."""

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image."""
        name = f"GCC_train_{image_number(sample):09d}"
        return f"cc3m/images/{name}.{self.image_format}"

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write images and files of the training split."""
        return super().write(split, samples) if split == "train" else []

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write conversations and captions."""
        talks, facts = [], []
        for number, sample in enumerate(samples):
            image = self.image_path(sample).rpartition("/")[2]
            ids = dict(id=image.partition(".")[0], image=image)
            short, long = captions_of(sample)
            ask = _ASK[number % 2]
            ask = f"<image>\n{ask}" if number % 3 else f"{ask}\n<image>"
            talk = [{"from": "human", "value": ask}, {"from": "gpt", "value": short}]
            talks.append({**ids, "conversations": talk})
            url = "https://tiny-scenes.invalid"
            facts.append(dict(**ids, caption=short, blip_caption=long, url=url))
        return [
            self.dump("cc3m/chat.json", talks),
            self.dump("cc3m/metadata.json", facts),
        ]

    def readers(self, split: str) -> list[dict]:
        """Return the datasets of conversations and of captions."""
        if split == "test":
            return []
        common = dict(data_root=self.folder, image_prefix="cc3m/images")
        return [
            dict(type="LLaVADataset", ann_file="cc3m/chat.json", **common),
            dict(type="CC3MDataset", ann_file="cc3m/metadata.json", **common),
        ]
