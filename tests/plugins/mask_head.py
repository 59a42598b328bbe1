"""Plug-in: the state of a token and a second, larger image to a mask."""

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mmvlm.models.heads.base import Head, LossTerm
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import SampleInputs, ViewLayout
from mmvlm.structures.masks import polygons_to_mask, rle_to_mask


@TRANSFORMS.register_module()
class SecondImage:
    """The images once more, at another size, and the masks of marked regions."""

    def __init__(self, size=64):
        self.size = size

    def __call__(self, item):
        shape = (self.size, self.size)
        views = [
            cv2.resize(image, shape).transpose(2, 0, 1)[None]
            for image in item["images"]
        ]
        layouts = tuple(ViewLayout(i.shape[:2], shape) for i in item["images"])
        second = SampleInputs.join(views, layouts, fills_slots=False)
        item.setdefault("inputs", {})["image_hi"] = second
        item["targets"] = dict(mask=[self._mask(r) for r in item["marked_regions"]])
        return item

    def _mask(self, region):
        if region.rles and region.rles[0]:
            mask = rle_to_mask(region.rles[0])
        else:
            mask = polygons_to_mask(region.polygons[0], region.boxes.size)
        mask = mask.astype(np.float32)
        return cv2.resize(mask, (self.size // 2, self.size // 2))


@MODELS.register_module()
class DotMaskHead(Head):
    """Dot product of the token's state with every patch of the second image."""

    terms = ("mask_bce", "mask_dice")
    reads = ("image_hi:*",)
    tokens = ("[SEG]",)

    def __init__(self, specs, scale=4, **kwargs):
        super().__init__(**kwargs)
        width = specs["image_hi"].width
        self.query = nn.Linear(self.in_width, width)
        self.up = nn.ConvTranspose2d(width, width, scale, scale)

    def forward(self, states, images):
        return torch.einsum("kc,kchw->khw", self.query(states), self.up(images))

    def maps(self, feed, owner):
        images, inputs = feed.images("image_hi"), feed.inputs("image_hi")
        return torch.cat([images[inputs.owner.index(one)].patch_map() for one in owner])

    def loss(self, hidden, targets, feed):
        logits = self(hidden, self.maps(feed, targets.owner))
        goal = targets.values.values
        bce = binary_cross_entropy_with_logits(logits, goal, reduction="none")
        share, goal = logits.sigmoid().flatten(1), goal.flatten(1)
        overlap = 2 * (share * goal).sum(1) + 1
        dice = 1 - overlap / (share.sum(1) + goal.sum(1) + 1)
        count = len(targets)
        return dict(
            mask_bce=LossTerm(bce.mean((1, 2)).sum(), count),
            mask_dice=LossTerm(dice.sum(), count),
        )

    def predict(self, states, samples, feed):
        for number, (own, sample) in enumerate(zip(states, samples, strict=True)):
            inputs = feed.inputs("image_hi")
            size = inputs.layouts[inputs.owner.index(number)].original_size[::-1]
            logits = self(own, self.maps(feed, [number] * len(own))) if len(own) else []
            sample.pred_masks = [
                cv2.resize(one.float().numpy(), size) > 0 for one in logits
            ]
