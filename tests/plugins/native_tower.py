"""Plug-in: the vision tower of transformers' Qwen2-VL, images at their own size."""

import cv2
import torch
from transformers.models.qwen2_vl import configuration_qwen2_vl, modeling_qwen2_vl

from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import VisionEncoderSpec, VisionFeatures


@TRANSFORMS.register_module()
class DrawnShape:
    """Stretch every image to a height that is drawn, so that no two are alike."""

    def __init__(self, least=32, most=64):
        self.least, self.most = least, most

    def __call__(self, item):
        heights = item["rng"].integers(self.least, self.most, len(item["images"]))
        item["images"] = [
            cv2.resize(image, (image.shape[1], int(height)))
            for image, height in zip(item["images"], heights, strict=True)
        ]
        item["image_sizes"] = [image.shape[:2] for image in item["images"]]
        return item


@MODELS.register_module()
class QwenTower(VisionEncoder):
    """Patches of all images in one tensor; blocks of four are merged to a token."""

    native_resolution = takes_grids = True

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        config = configuration_qwen2_vl.Qwen2VLVisionConfig(**config)
        tower = modeling_qwen2_vl.Qwen2VisionTransformerPretrainedModel
        self.visual = tower._from_config(config)
        side = config.patch_size * config.spatial_merge_size
        self.spec = VisionEncoderSpec(config.hidden_size, config.depth, side, 8 * side)

    @property
    def blocks(self):
        return self.visual.blocks

    def forward(self, pixel_values, select_layers=(-1,), grids=()):
        config = self.visual.config
        frames, merge = config.temporal_patch_size, config.spatial_merge_size
        patches = pixel_values[:, :, None].expand(-1, -1, frames, -1, -1).flatten(1)
        sizes = torch.tensor(grids).view(-1, 3).to(patches.device)
        states = self.visual(patches, grid_thw=sizes)
        states = getattr(states, "pooler_output", states)[None]
        merged = [(t, rows // merge, cols // merge) for t, rows, cols in grids]
        layers, grid = (self.spec.num_layers,), (1, states.shape[1])
        return VisionFeatures((states,), layers, grid, grids=tuple(merged))

    @classmethod
    def tiny(cls):
        sizes = dict(depth=2, num_heads=2, patch_size=4, embed_dim=32, mlp_ratio=2)
        return cls(config=dict(sizes, hidden_size=48))
