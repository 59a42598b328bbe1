"""ShareGPT4V's captions: LLaVA's JSON over images of many sets."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .densefusion_jsonl import dense_caption
from .own_images import OwnImagesWriter

_FILE = "sharegpt4v_instruct_gpt4-vision_cap100k.json"
_PATHS = (
    "data/coco/train2017/{:012d}",
    "data/sam/images/sa_{}",
    "data/llava/llava_pretrain/images/00453/{:09d}",
    "data/share_textvqa/images/{:016x}",
)
_ASK = ("What do you see happening in this image?", "Describe this image in detail.")


@SCENE_WRITERS.register_module(name="sharegpt4v")
class ShareGPT4VWriter(OwnImagesWriter):
    """Write the captions of ShareGPT4V; there is no test split.

    Images lie in the folders of the sets they come from, below ``data``.
    """

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image in one of four sets."""
        number = image_number(sample)
        path = _PATHS[number % len(_PATHS)].format(number)
        return f"{path}.{self.image_format}"

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write images and file of the training split."""
        return super().write(split, samples) if split == "train" else []

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the list of conversations."""
        rows = []
        for number, sample in enumerate(samples):
            image = self.image_path(sample).removeprefix("data/")
            ask = _ASK[number % 2]
            ask = f"<image>\n{ask}" if number % 3 else f"{ask}\n<image>"
            conversation = [
                {"from": "human", "value": ask},
                {"from": "gpt", "value": dense_caption(sample.scene)},
            ]
            name = image.rpartition("/")[2].partition(".")[0]
            rows.append(dict(id=name, image=image, conversations=conversation))
        return [self.dump(_FILE, rows)]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of the training split."""
        common = dict(type="LLaVADataset", data_root=self.folder, image_prefix="data")
        return [dict(**common, ann_file=_FILE)] if split == "train" else []
