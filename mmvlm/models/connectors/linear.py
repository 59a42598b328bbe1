"""The linear connector, and the base of those that map each patch alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import PatchTokenCount, VisionFeatures

from .base import Connector


class PatchConnector(Connector):
    """Base: one selected layer, one output token per kept input token.

    Subclasses set ``self.proj``, a module from (..., Dv) to (..., Dl).

    Args:
        select_feature (str): ``patch`` drops the prefix tokens, ``cls_patch``
            keeps them.
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: unknown ``select_feature``, or not exactly one layer.
    """

    proj: nn.Module
    one_layer = True

    def __init__(self, *, select_feature: str = "patch", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        name = type(self).__name__
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
        **kwargs: see :class:`PatchConnector`.

    Trainable parameters: Dv*Dl + Dl.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.proj = nn.Linear(self.vision_spec.width, self.out_width)
