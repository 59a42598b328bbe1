"""Plug-in: the state of a token to a box."""

import numpy as np
from torch import nn
from torch.nn.functional import l1_loss

from mmvlm.models.heads.base import Head, LossTerm
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import Boxes


@TRANSFORMS.register_module()
class BoxTargets:
    """Boxes of marked regions, as shares of the image."""

    def __call__(self, item):
        boxes = [region.boxes.to("unit").xyxy[0] for region in item["marked_regions"]]
        item["targets"] = dict(box=[np.float32(box) for box in boxes])
        return item


@MODELS.register_module()
class BoxHead(Head):
    """Two layers from the state to x1, y1, x2, y2 as shares of the image."""

    terms = ("box_l1",)
    tokens = ("[LOC]",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        width = self.in_width
        self.layers = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4), nn.Sigmoid()
        )

    def loss(self, hidden, targets, feed):
        total = l1_loss(self.layers(hidden), targets.values.values, reduction="sum")
        return dict(box_l1=LossTerm(total / 4, len(targets)))

    def predict(self, states, samples, feed):
        for own, sample in zip(states, samples, strict=True):
            size = sample.layouts[0].original_size
            boxes = self.layers(own).float().numpy() * np.tile(size[::-1], 2)
            sample.pred_boxes = Boxes(boxes, size)
