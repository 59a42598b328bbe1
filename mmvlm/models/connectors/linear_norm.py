"""DeepSpeed-VisualChat's plain projection: a linear layer and a norm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec

from .linear import PatchConnector


@MODELS.register_module()
class LinearNormConnector(PatchConnector):
    """Linear, then LN, over every token of the tower (DeepSpeed-VisualChat).

    Paper: Yao et al., "DeepSpeed-VisualChat: Multi-Round Multi-Image Interleave
    Chat via Multi-Modal Causal Attention", 2023, arXiv 2309.14327 (its ``baseline``
    projection). Deviations: none.

    Args:
        vision_spec (VisionEncoderSpec): filled in by the VLM.
        out_width (int): Dl, filled in by the VLM.
        norm_eps (float): of the norm.
        select_layers (Sequence[int]): exactly one hidden state.
        select_feature (str): ``cls_patch`` keeps the prefix tokens, ``patch`` drops
            them.
        init_cfg (dict | list | None): mmengine initialisation.

    Trainable parameters: Dv*Dl + 3*Dl.

    """

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        norm_eps: float = 1e-12,
        select_layers: Sequence[int] = (-1,),
        select_feature: str = "cls_patch",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            vision_spec=vision_spec,
            out_width=out_width,
            select_layers=select_layers,
            select_feature=select_feature,
            init_cfg=init_cfg,
        )
        self.proj = nn.Sequential(
            nn.Linear(vision_spec.width, out_width),
            nn.LayerNorm(out_width, eps=norm_eps),
        )
