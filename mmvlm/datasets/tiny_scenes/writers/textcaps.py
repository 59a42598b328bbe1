"""TextCaps' captions."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .coco_captions import captions_of
from .own_images import OwnImagesWriter
from .textvqa import image_key

_SPLITS = {"train": "train", "test": "val"}


@SCENE_WRITERS.register_module(name="textcaps")
class TextCapsWriter(OwnImagesWriter):
    """Write ``textcaps/TextCaps_0.1_<split>.json``, a row per caption."""

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image."""
        return f"textcaps/train_images/{image_key(sample)}.{self.image_format}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the rows of captions."""
        rows = []
        for sample in samples:
            key, captions = image_key(sample), captions_of(sample)
            for caption in captions:
                rows.append(
                    dict(
                        caption_str=caption,
                        caption_id=len(rows),
                        image_id=key,
                        image_classes=["Drawing"],
                        flickr_original_url="https://tiny-scenes.invalid",
                        image_width=sample.scene.size,
                        image_height=sample.scene.size,
                        image_name=key,
                        image_path=f"train/{key}.jpg",
                        reference_strs=captions,
                        reference_tokens=[caption.split() for caption in captions],
                        caption_tokens=caption.split(),
                        set_name=_SPLITS[split],
                    )
                )
        head = dict(dataset_type=_SPLITS[split], dataset_name="textcaps")
        table = {**head, "dataset_version": "0.1", "data": rows}
        return [self.dump(self._name(split), table)]

    def _name(self, split: str) -> str:
        return f"textcaps/TextCaps_0.1_{_SPLITS[split]}.json"

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="TextCapsDataset",
                data_root=self.folder,
                ann_file=self._name(split),
                image_prefix="textcaps/train_images",
                image_name=f"{{image_id}}.{self.image_format}",
            )
        ]
