"""Plug-in: features of an image, pooled under a box, a point or a mask."""

import cv2
import numpy as np
import torch
from torch import nn

from mmvlm.models.connectors.base import Connector, Filled
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import FixedTokenCount, InputLayout, SampleInputs
from mmvlm.structures.masks import polygons_to_mask, rle_to_mask


@TRANSFORMS.register_module()
class RegionMasks:
    """Regions that fill slots become masks on the view's patch grid."""

    def __init__(self, grid=4):
        self.grid = grid

    def __call__(self, item):
        masks = [self._mask(region) for region in item["regions"]]
        if masks:
            layouts = [InputLayout("region", one.shape[1:]) for one in masks]
            parent = [region.image for region in item["regions"]]
            regions = SampleInputs.join(masks, tuple(layouts), tuple(parent))
            item.setdefault("inputs", {})["region"] = regions
        return item

    def _mask(self, region):
        shape = (self.grid, self.grid)
        if region.kind == "mask":
            if region.rles[0]:
                mask = rle_to_mask(region.rles[0])
            else:
                mask = polygons_to_mask(region.polygons[0], region.boxes.size)
            mask = mask.astype(np.float32)
            return cv2.resize(mask, shape, interpolation=cv2.INTER_AREA)[None]
        x1, y1, x2, y2 = region.boxes.to("unit").xyxy[0] * self.grid
        left, top = (min(int(edge), self.grid - 1) for edge in (x1, y1))
        mask = np.zeros((1, *shape), np.float32)
        mask[0, top : max(top + 1, round(y2)), left : max(left + 1, round(x2))] = 1
        return mask


@MODELS.register_module()
class MaskPooling(Connector):
    """Mean of the patches under a region's mask, projected."""

    fills = ("region",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.proj = nn.Linear(self.vision_spec.width, self.out_width)

    @property
    def reads(self):
        return (*super().reads, "region")

    @property
    def token_count(self):
        return FixedTokenCount(1)

    def forward(self, features):
        return self.proj(features.patches()).mean(1, keepdim=True)

    def fill(self, kind, feed):
        regions = feed.inputs(kind)
        images = feed.images("image", self.select_layers, self.weight_dtype)
        pooled = []
        for mask, parent in zip(regions.entries(), regions.parent, strict=True):
            patches = images[parent].patches()[0]
            pooled.append(mask.flatten() @ patches / mask.sum())
        return Filled(self.proj(torch.stack(pooled)))
