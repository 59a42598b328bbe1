"""Tokens of images at their own resolution, taken as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmvlm.registry import MODELS
from mmvlm.structures import ViewLayout, VisionEncoderSpec, VisionFeatures
from mmvlm.structures.native_resolution import BlockTokenCount, native_layout

from .base import Connector


@MODELS.register_module()
class NativeResolutionConnector(Connector):
    """Hand on the tokens of an encoder of images at their own resolution.

    The towers of Qwen2-VL end with a merger that gives embeddings of the language
    model, so that nothing is left to do; for a language model of another width the
    tokens go through a linear layer.

    Paper: Wang et al., "Qwen2-VL: Enhancing Vision-Language Model's Perception of the
    World at Any Resolution", 2024, arXiv 2409.12191. Deviations: the linear layer.

    Args:
        vision_spec (VisionEncoderSpec): filled in by the VLM; its ``patch_size`` are
            the pixels of a token.
        out_width (int): Dl, filled in by the VLM.
        merge (int): patches per side that the encoder joins to one token.
        select_layers (Sequence[int]): exactly one hidden state.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: when not exactly one layer is selected.

    Trainable parameters: none, or Dv*Dl + Dl when the widths differ.
    """

    native_resolution = True
    takes_grids = True

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        merge: int = 2,
        select_layers: Sequence[int] = (-1,),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            vision_spec=vision_spec,
            out_width=out_width,
            select_layers=select_layers,
            init_cfg=init_cfg,
        )
        if len(self.select_layers) != 1:
            raise ValueError(
                f"NativeResolutionConnector: select_layers={list(self.select_layers)}, "
                "expected exactly one layer."
            )
        self.merge = merge
        same = vision_spec.width == out_width
        self.proj = (
            torch.nn.Identity()
            if same
            else torch.nn.Linear(vision_spec.width, out_width)
        )

    @property
    def token_count(self) -> BlockTokenCount:
        """One token per block of patches."""
        return BlockTokenCount(self.merge)

    def views_of(self, size: tuple[int, int]) -> ViewLayout:
        """Return the layout of an image of whole blocks: its views are patches."""
        rows, cols = (max(1, side // self.vision_spec.patch_size) for side in size)
        patch = self.vision_spec.patch_size // self.merge
        return native_layout((1, rows * self.merge, cols * self.merge), patch, size)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Project the tokens of all images.

        Shape:
            - ``features.hidden_states[0]``: (1, N, Dv), N may be 0
            - output: (1, N, Dl)
        """
        return self.proj(features.patches(0))
