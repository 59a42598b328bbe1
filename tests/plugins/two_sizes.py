"""Plug-in: views of two sizes, and a second encoder that sees a third one."""

import cv2
import torch
from torch import nn

from mmvlm.datasets.transforms.resize_square import ResizeSquare
from mmvlm.models.connectors.base import Filled
from mmvlm.models.connectors.linear import PatchConnector
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import SampleInputs, ViewLayout


@TRANSFORMS.register_module()
class DrawnSize(ResizeSquare):
    """Resize every image to a side that is drawn, and once more for ``image_hi``."""

    def __init__(self, sizes=(36, 48), size_hi=64, **kwargs):
        super().__init__(**kwargs)
        self.sizes, self.size_hi = sizes, size_hi

    def __call__(self, item):
        item, shape = super().__call__(item), (self.size_hi, self.size_hi)
        views = [
            cv2.resize(image, shape).transpose(2, 0, 1)[None]
            for image in item["images"]
        ]
        layouts = tuple(ViewLayout(i.shape[:2], shape) for i in item["images"])
        if views:
            second = SampleInputs.join(views, layouts, fills_slots=False)
            item["inputs"] = dict(image_hi=second)
        return item

    def view(self, image, rng=None):
        self.size = int(rng.choice(self.sizes))
        return super().view(image)

    def layout(self, height, width, rng=None):
        if rng is not None:
            self.size = int(rng.choice(self.sizes))
        return super().layout(height, width)


@MODELS.register_module()
class AddedTowers(PatchConnector):
    """Patches of one encoder, with the patches of another added where they lie."""

    def __init__(self, specs, layer_hi=-1, **kwargs):
        super().__init__(**kwargs)
        self.layer_hi = layer_hi
        self.proj = nn.Linear(self.vision_spec.width, self.out_width)
        self.proj_hi = nn.Linear(specs["image_hi"].width, self.out_width)

    @property
    def reads(self):
        return (*super().reads, f"image_hi:{self.layer_hi}")

    def fill(self, kind, feed):
        rows = []
        images = feed.images("image", self.select_layers, self.weight_dtype)
        others = feed.images("image_hi", (self.layer_hi,), self.weight_dtype)
        for image, other in zip(images, others, strict=True):
            second = nn.functional.adaptive_avg_pool2d(other.patch_map(), image.grid)
            second = self.proj_hi(second.flatten(2).transpose(1, 2))
            rows.append((self(image) + second).flatten(0, 1))
        return Filled(torch.cat(rows))
