"""DeepSpeed-VisualChat's plain projection: a linear layer and a norm."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmvlm.registry import MODELS

from .linear import PatchConnector


@MODELS.register_module()
class LinearNormConnector(PatchConnector):
    """Linear, then LN, over every token of the tower (DeepSpeed-VisualChat).

    Paper: Yao et al., "DeepSpeed-VisualChat: Multi-Round Multi-Image Interleave
    Chat via Multi-Modal Causal Attention", 2023, arXiv 2309.14327 (its ``baseline``
    projection). Deviations: none.

    Args:
        norm_eps (float): of the norm.
        select_feature (str): ``cls_patch`` keeps the prefix tokens, ``patch`` drops
            them.
        **kwargs: see :class:`Connector`.

    Trainable parameters: Dv*Dl + 3*Dl.
    """

    default_layers = (-1,)

    def __init__(
        self,
        *,
        norm_eps: float = 1e-12,
        select_feature: str = "cls_patch",
        **kwargs: Any,
    ) -> None:
        super().__init__(select_feature=select_feature, **kwargs)
        self.proj = nn.Sequential(
            nn.Linear(self.vision_spec.width, self.out_width),
            nn.LayerNorm(self.out_width, eps=norm_eps),
        )
