"""Plug-in: features of an image, pooled under a box, a point or a mask."""

import numpy as np
import torch
from torch import nn

from mmvlm.models.connectors.base import Connector, Filled
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import FixedTokenCount, InputLayout, SampleInputs


@TRANSFORMS.register_module()
class RegionMasks:
    """Regions that fill slots become masks on the view's patch grid."""

    def __init__(self, grid=4):
        self.grid = grid

    def __call__(self, item):
        masks = [self._mask(region, item["layouts"]) for region in item["regions"]]
        if masks:
            layouts = [InputLayout("region", one.shape[1:]) for one in masks]
            parent = [region.image for region in item["regions"]]
            regions = SampleInputs.join(masks, tuple(layouts), tuple(parent))
            item.setdefault("inputs", {})["region"] = regions
        return item

    def _mask(self, region, layouts):
        layout, mask = layouts[region.image], np.zeros((1, self.grid, self.grid))
        x1, y1, x2, y2 = region.boxes.to("pixel").xyxy[0] * np.tile(layout.scale, 2)
        height, width = np.array(layout.view_size) / self.grid
        rows = slice(int(y1 / height), max(int(y1 / height) + 1, round(y2 / height)))
        cols = slice(int(x1 / width), max(int(x1 / width) + 1, round(x2 / width)))
        mask[0, rows, cols] = 1
        return mask.astype(np.float32)


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
