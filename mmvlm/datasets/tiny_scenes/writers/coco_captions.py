"""COCO's captions."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .densefusion_jsonl import dense_caption
from .own_images import OwnImagesWriter

_SPLITS = {"train": "train2017", "test": "val2017"}


def captions_of(sample: SceneSample) -> list[str]:
    """Return a short and a long caption of a scene."""
    return [sample.caption, dense_caption(sample.scene)]


@SCENE_WRITERS.register_module(name="coco_captions")
class COCOCaptionsWriter(OwnImagesWriter):
    """Write ``annotations/captions_<split>.json``; two captions per image."""

    def image_path(self, sample: SceneSample) -> str:
        """Return COCO's path of 2017."""
        folder = _SPLITS[sample.id.split("-")[0]]
        return f"{folder}/{image_number(sample):012d}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write images and captions, the captions out of order as COCO's are."""
        images, annotations = [], []
        for sample in samples:
            image_id = image_number(sample)
            images.append(
                dict(
                    license=1,
                    file_name=self.image_path(sample).rpartition("/")[2],
                    coco_url="https://tiny-scenes.invalid",
                    height=sample.scene.size,
                    width=sample.scene.size,
                    date_captured="2013-11-14 17:02:52",
                    id=image_id,
                )
            )
        for number in range(2):
            for sample in samples:
                image_id = image_number(sample)
                annotations.append(
                    dict(
                        image_id=image_id,
                        id=image_id * 10 + number,
                        caption=captions_of(sample)[number],
                    )
                )
        table = dict(info={}, licenses=[], images=images, annotations=annotations)
        return [self.dump(self._name(split), table)]

    def _name(self, split: str) -> str:
        return f"annotations/captions_{_SPLITS[split]}.json"

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="COCOCaptionsDataset",
                data_root=self.folder,
                ann_file=self._name(split),
                image_prefix=_SPLITS[split],
            )
        ]
