"""The linear connector, and the base of those that map each patch alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import PatchTokenCount, VisionEncoderSpec, VisionFeatures

from .base import Connector


class PatchConnector(Connector):
    """Base: one selected layer, one output token per kept input token.

    Subclasses set ``self.proj``, a module from (..., Dv) to (..., Dl).

    Args:
        vision_spec (VisionEncoderSpec): filled in by the VLM.
        out_width (int): Dl, filled in by the VLM.
        select_layers (Sequence[int]): exactly one hidden state.
        select_feature (str): ``patch`` drops the prefix tokens, ``cls_patch``
            keeps them.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: unknown ``select_feature``, or not exactly one layer.

    """

    proj: nn.Module

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        select_layers: Sequence[int] = (-2,),
        select_feature: str = "patch",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            vision_spec=vision_spec,
            out_width=out_width,
            select_layers=select_layers,
            init_cfg=init_cfg,
        )
        name = type(self).__name__
        if len(self.select_layers) != 1:
            raise ValueError(
                f"{name}: select_layers={list(self.select_layers)}, expected exactly "
                "one layer."
            )
        if select_feature not in ("patch", "cls_patch"):
            raise ValueError(
                f"{name}: select_feature={select_feature!r}, expected 'patch' or "
                "'cls_patch'."
            )
        self.select_feature = select_feature

    @property
    def token_count(self) -> PatchTokenCount:
        """One token per patch, and the prefix tokens when they are kept."""
        keep = self.select_feature == "cls_patch"
        return PatchTokenCount(
            self.vision_spec.patch_size,
            extra=self.vision_spec.num_prefix_tokens if keep else 0,
        )

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Project every token of the selected layer.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (V, N, Dl), or (V, P + N, Dl) with ``cls_patch``
        """
        if self.select_feature == "patch":
            return self.proj(features.patches(0))
        return self.proj(features.hidden_states[0])


@MODELS.register_module()
class LinearConnector(PatchConnector):
    """One linear layer over every patch (LLaVA 1.0).

    Paper: Liu et al., "Visual Instruction Tuning", NeurIPS 2023, arXiv
    2304.08485. Deviations: none.

    Args:
        vision_spec (VisionEncoderSpec): filled in by the VLM.
        out_width (int): Dl, filled in by the VLM.
        select_layers (Sequence[int]): exactly one hidden state.
        select_feature (str): ``patch`` or ``cls_patch``.
        init_cfg (dict | list | None): mmengine initialisation.

    Trainable parameters: Dv*Dl + Dl.

    """

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        select_layers: Sequence[int] = (-2,),
        select_feature: str = "patch",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            vision_spec=vision_spec,
            out_width=out_width,
            select_layers=select_layers,
            select_feature=select_feature,
            init_cfg=init_cfg,
        )
        self.proj = nn.Linear(vision_spec.width, out_width)
