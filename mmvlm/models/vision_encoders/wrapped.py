"""The base of encoders that add something to another one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures

from .base import VisionEncoder


class WrappedVisionEncoder(VisionEncoder):
    """An encoder whose modules are another's, under their own names.

    Weights so keep the names of the wrapped encoder alone, whose checkpoints fit.

    Args:
        vision_encoder (dict | VisionEncoder): config or module.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for weights outside its modules, which would be lost, or LoRA,
            whose plain names only the encoder itself can give.
    """

    def __init__(
        self,
        vision_encoder: dict | VisionEncoder,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(vision_encoder, dict):
            vision_encoder = MODELS.build(vision_encoder)
        name, kind = type(self).__name__, type(vision_encoder).__name__
        if getattr(vision_encoder, "lora", None):
            raise ValueError(
                f"{name}: {kind} has lora={vision_encoder.lora}, which cannot be "
                "wrapped; leave it out."
            )
        own = [*vision_encoder._parameters, *vision_encoder._buffers]
        if own:
            raise ValueError(
                f"{name}: {kind} holds {own} outside its modules, so it cannot be "
                "wrapped; take HFVisionEncoder or TimmVisionEncoder."
            )
        for child_name, child in vision_encoder.named_children():
            self.add_module(child_name, child)
        self.spec = vision_encoder.spec
        # In a tuple, so that it is not registered a second time.
        self._wrapped = (vision_encoder,)

    @property
    def wrapped(self) -> VisionEncoder:
        """The encoder itself."""
        return self._wrapped[0]

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Transformer blocks of the wrapped encoder in order."""
        return self.wrapped.blocks

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructors."""
        self.is_init = True

    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-2,)
    ) -> VisionFeatures:
        """Encode views; see the wrapped encoder.

        Shape:
            - ``pixel_values``: (V, 3, H, W), float, V may be 0
            - every hidden state: (V, P + N, Dv)
        """
        return self.wrapped(pixel_values, select_layers)
