"""GranD-f's captions with masked phrases, in its four layouts."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import (
    grounded_caption,
    image_number,
    outline,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene_masks import object_mask
from mmvlm.registry import SCENE_WRITERS
from mmvlm.structures.masks import mask_to_rle

from .own_images import OwnImagesWriter

_TRAIN, _EVAL = "GranDf/annotations/train", "GranDf/annotations/val_test"
_IMAGES = "GranDf_HA_images"


@SCENE_WRITERS.register_module(name="grand_f")
class GranDfWriter(OwnImagesWriter):
    """Write ``GranDf/annotations``: three files of training scenes, four of tests.

    Every file of training scenes holds all of them, each in its own layout, and so do
    ``val`` and ``test`` with the test scenes.

    Args:
        folder (str): root of the dataset.
        image_format (str): ``jpg``, as the public set has it, or ``png``.
    """

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image below ``folder``."""
        return f"{_IMAGES}/{_part(sample)}/{self._image(sample)}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the annotation files of a split."""
        if split == "train":
            whole, refs = (list(map(one, samples)) for one in (self._whole, self._refs))
            return [
                self.dump(f"{_TRAIN}/GranDf_HA_GCG_train.json", whole),
                self.dump(f"{_TRAIN}/RefCOCOg_GCG_train.json", refs),
                self.dump(
                    f"{_TRAIN}/flickr_mergedGT_GCG_train.json", self._tables(samples)
                ),
            ]
        captions, masks = self._references(samples)
        return [
            self.dump(f"{_EVAL}/{name}_gcg_coco_{kind}_gt.json", value)
            for name in ("val", "test")
            for kind, value in (("caption", captions), ("mask", masks))
        ]

    def readers(self, split: str) -> list[dict]:
        """Return a dataset per layout."""
        own = dict(type="GranDfDataset", data_root=self.folder)
        if split == "train":
            names = ("GranDf_HA_GCG", "RefCOCOg_GCG", "flickr_mergedGT_GCG")
            own["image_prefix"] = f"{_IMAGES}/train"
            return [dict(own, ann_file=f"{_TRAIN}/{n}_train.json") for n in names]
        return [
            dict(
                own,
                ann_file=f"{_EVAL}/val_gcg_coco_caption_gt.json",
                masks_file="val_gcg_coco_mask_gt.json",
                image_prefix=f"{_IMAGES}/val_test",
            )
        ]

    def _image(self, sample: SceneSample) -> str:
        return f"sa_{image_number(sample):08d}.{self.image_format}"

    def _whole(self, sample: SceneSample) -> dict:
        text, spans = grounded_caption(sample.scene)
        groundings = {
            text[start:end]: dict(token_positives=[start, end], rle_masks=[mask])
            for (start, end), mask in zip(spans, _masks(sample), strict=True)
        }
        return dict(
            file_name=self._image(sample),
            image_id=image_number(sample),
            caption=text,
            groundings=groundings,
        )

    def _refs(self, sample: SceneSample) -> dict:
        text, spans = grounded_caption(sample.scene)
        refs = [
            dict(sentence=text[start:end], segmentation=outline(item))
            for (start, end), item in zip(spans, sample.scene.objects, strict=True)
        ]
        record = dict(img_file_name=self._image(sample), caption=text, refs=refs)
        return {str(image_number(sample)): record}

    def _tables(self, samples: Sequence[SceneSample]) -> dict:
        tables: dict[str, list] = dict(images=[], annotations=[])
        for sample in samples:
            (text, spans), number = (
                grounded_caption(sample.scene),
                image_number(sample),
            )
            size = sample.scene.size
            tables["images"].append(
                dict(
                    id=number,
                    file_name=self._image(sample),
                    caption=text,
                    width=size,
                    height=size,
                )
            )
            things = zip(spans, _masks(sample), sample.scene.objects, strict=True)
            for place, (span, mask, item) in enumerate(things):
                x1, y1, x2, y2 = item.box
                tables["annotations"].append(
                    dict(
                        id=number * 10 + place,
                        image_id=number,
                        bbox=[x1, y1, x2 - x1, y2 - y1],
                        area=(x2 - x1) * (y2 - y1),
                        tokens_positive=[list(span)],
                        sam_mask=mask,
                    )
                )
        return tables

    def _references(self, samples: Sequence[SceneSample]) -> tuple[dict, dict]:
        """Return the captions and the masks that answers are scored with."""
        images, captions, masks = [], [], []
        for sample in samples:
            (text, spans), number = (
                grounded_caption(sample.scene),
                image_number(sample),
            )
            images.append(dict(id=number, file_name=self._image(sample)))
            labels = [text[start:end] for start, end in spans]
            captions.append(
                dict(id=number, image_id=number, caption=text, labels=labels)
            )
            masks += [
                dict(image_id=number, category_id=1, segmentation=mask, iscrowd=0)
                for mask in _masks(sample)
            ]
        for place, one in enumerate(masks):
            one["id"] = place
        return (
            dict(images=images, annotations=captions),
            dict(
                images=images, annotations=masks, categories=[dict(id=1, name="object")]
            ),
        )


def _part(sample: SceneSample) -> str:
    return "train" if sample.id.startswith("train") else "val_test"


def _masks(sample: SceneSample) -> list[dict]:
    scene = sample.scene
    return [mask_to_rle(object_mask(scene, item)) for item in scene.objects]
