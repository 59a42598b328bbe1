"""A ConvNeXt as the only encoder: tokens of one stage, maps of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import MapSpec, VisionEncoderSpec, VisionFeatures

from .base import VisionEncoder
from .convnext import TimmConvNeXt

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@MODELS.register_module()
class ConvNeXtVisionEncoder(VisionEncoder):
    """Hidden states of the blocks of one ConvNeXt stage; the map of every stage.

    Hidden state 0 is what enters the stage's blocks, the last one is the stage's map.
    ``VisionFeatures.maps`` holds ``stage0`` to ``stage3``, which region encoders such
    as :class:`MaskExtractor` read.

    Paper: Yuan et al., "Osprey: Pixel Understanding with Visual Instruction Tuning",
    CVPR 2024, arXiv 2312.10032. Deviations: none.

    Args:
        encoder (dict | TimmConvNeXt): the ConvNeXt.
        image_size (int): side of a view in pixels; sides are multiples of the last
            stage's stride.
        stage (int): whose blocks give the tokens; 2 has a stride of 16 pixels.
        mean, std (Sequence[float]): normalisation of RGB in 0-1; CLIP's by default.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for a stage that is not there, or a size that does not divide.

    Trainable parameters: those of the ConvNeXt.
    """

    #: What ``--tiny`` makes of it.
    tiny_fields = dict(image_size=64)  # noqa: RUF012
    #: Osprey keeps a ConvNeXt in OpenCLIP's wrapper.
    official_keys: ClassVar = {
        f"model.vision_tower.vision_tower.visual.trunk.{part}.": (
            f"vision_encoder.{part}."
        )
        for part in ("stem", "stages")
    }

    def __init__(
        self,
        encoder: dict | TimmConvNeXt,
        *,
        image_size: int = 512,
        stage: int = 2,
        mean: Sequence[float] = _CLIP_MEAN,
        std: Sequence[float] = _CLIP_STD,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(encoder, dict):
            encoder = MODELS.build(encoder)
        self.encoder, self.stage = encoder, stage
        strides, widths = encoder.strides, encoder.widths
        if not 0 <= stage < len(strides):
            raise ValueError(
                f"ConvNeXtVisionEncoder: stage={stage}, expected 0 to "
                f"{len(strides) - 1}."
            )
        self._check_side(image_size)
        patch = strides[stage]
        cells = [patch // s if s <= patch else patch / s for s in strides]
        self.spec = VisionEncoderSpec(
            width=widths[stage],
            num_layers=len(self.blocks),
            patch_size=patch,
            image_size=image_size,
            mean=tuple(mean),
            std=tuple(std),
            maps=tuple(
                MapSpec(f"stage{n}", width, count)
                for n, (width, count) in enumerate(zip(widths, cells, strict=True))
            ),
        )

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Blocks of the stage that gives the tokens, in order."""
        return self.encoder.stages[self.stage].blocks

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructors."""
        self.is_init = True

    def _check_side(self, *sides: int) -> None:
        stride = self.encoder.strides[-1]
        if any(side % stride for side in sides):
            raise ValueError(
                f"ConvNeXtVisionEncoder: {' x '.join(map(str, sides))} pixels do not "
                f"divide into cells of {stride}, the stride of the last stage."
            )

    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-1,)
    ) -> VisionFeatures:
        """Encode views; all stages run, as every map is there.

        Shape:
            - ``pixel_values``: (V, 3, H, W), V may be 0
            - every hidden state: (V, N, Dv), N = H * W / stride^2
            - ``maps["stage<n>"]``: (V, widths[n], H / strides[n], W / strides[n])
        """
        size = tuple(pixel_values.shape[-2:])
        self._check_side(*size)
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        dtype = next(self.encoder.parameters()).dtype
        if not len(pixel_values):
            return self._nothing(pixel_values.to(dtype), layers)
        hidden, maps, kept = self.encoder.stem(pixel_values.to(dtype)), {}, {}
        for number, stage in enumerate(self.encoder.stages):
            hidden = stage.downsample(hidden)
            states = [hidden]
            for block in stage.blocks:
                hidden = block(hidden)
                states.append(hidden)
            if number == self.stage:
                kept = {n: states[n].flatten(2).transpose(1, 2) for n in layers}
            maps[f"stage{number}"] = hidden
        states = tuple(kept[layer] for layer in layers)
        return VisionFeatures(states, layers, self.spec.grid(*size), maps=maps)

    def _nothing(self, views: torch.Tensor, layers: tuple[int, ...]) -> VisionFeatures:
        """Return the features of no view at all."""
        height, width = views.shape[-2:]
        grid = self.spec.grid(height, width)
        empty = views.new_zeros(0, grid[0] * grid[1], self.spec.width)
        sizes = zip(self.spec.maps, self.encoder.strides, strict=True)
        maps = {
            one.name: views.new_zeros(0, one.width, height // stride, width // stride)
            for one, stride in sizes
        }
        return VisionFeatures((empty,) * len(layers), layers, grid, maps=maps)

    @classmethod
    def tiny(cls) -> ConvNeXtVisionEncoder:
        """Build a random miniature: 4 x 4 tokens of two blocks."""
        sizes = dict(TimmConvNeXt.tiny_fields, depths=(1, 1, 2, 1))
        return cls(TimmConvNeXt(**sizes), **cls.tiny_fields)
