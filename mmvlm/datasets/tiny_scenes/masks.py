"""Images with the masks of what they show, for a promptable segmenter."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
import PIL.Image
import torch
from torch.utils.data import Dataset

from mmvlm.datasets.transforms.masks import SAMViews
from mmvlm.datasets.transforms.resizing import resize_exact
from mmvlm.registry import DATASETS, FUNCTIONS
from mmvlm.structures import VLMDataSample
from mmvlm.structures.masks import instance_rle, rle_to_mask


@DATASETS.register_module()
class ImageMaskDataset(Dataset):
    """The instances with masks of any reader of annotated images.

    Args:
        source (dict): config in ``DATASETS`` of an :class:`AnnotatedImageDataset`, one
            record per image.
        max_masks (int): the first ones of an image are taken.
    """

    def __init__(self, source: dict, *, max_masks: int = 8) -> None:
        self.source = DATASETS.build(dict(source, pipeline=[]))
        self.max_masks = max_masks
        self._views: SAMViews | None = None

    def bind(self, context: Any) -> None:
        """Take the encoder's image size."""
        self._views = SAMViews(context.spec.image_size)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict:
        """Return ``pixel_values`` (3, S, S) uint8, ``masks`` (K, S, S) and the sample.

        Raises:
            RuntimeError: before :meth:`bind`.
            ValueError: when the image is no square, or none of its instances has a
                mask.
        """
        if self._views is None:
            raise RuntimeError("ImageMaskDataset: call bind(context) first.")
        annotation = self.source.annotation_at(index)
        path = os.path.join(self.source.image_root, annotation.image)
        with PIL.Image.open(path) as opened:
            image = np.asarray(opened.convert("RGB"))
        layout = self._views.layout(*image.shape[:2])
        rles = [instance_rle(one, image.shape[:2]) for one in annotation.instances]
        rles = [rle for rle in rles if rle is not None][: self.max_masks]
        if image.shape[0] != image.shape[1] or not rles:
            raise ValueError(
                f"'{path}': {image.shape[:2]} pixels, {len(rles)} masks; expected a "
                "square image and one mask or more."
            )
        size = layout.view_size
        view = resize_exact(image, *size, "bilinear").transpose(2, 0, 1)
        masks = [
            cv2.resize(rle_to_mask(rle), size[::-1], interpolation=cv2.INTER_NEAREST)
            for rle in rles
        ]
        sample = VLMDataSample()
        sample.set_field(annotation.id, "sample_id", field_type="metainfo")
        return dict(
            pixel_values=torch.from_numpy(np.ascontiguousarray(view)),
            masks=torch.from_numpy(np.stack(masks)),
            data_samples=sample,
        )


@FUNCTIONS.register_module()
def collate_masks(items: list[dict]) -> dict:
    """Join images and all their masks.

    Args:
        items (list[dict]): of :class:`ImageMaskDataset`.

    Returns:
        dict: ``inputs`` with ``pixel_values`` (B, 3, S, S) and ``masks`` (M, S, S),
        uint8, and ``image`` (M,) int64; and ``data_samples``.
    """
    counts = torch.tensor([len(item["masks"]) for item in items])
    inputs = dict(
        pixel_values=torch.stack([item["pixel_values"] for item in items]),
        masks=torch.cat([item["masks"] for item in items]),
        image=torch.arange(len(items)).repeat_interleave(counts),
    )
    return dict(inputs=inputs, data_samples=[item["data_samples"] for item in items])
