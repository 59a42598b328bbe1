"""Monkey: one encoder for all crops of an image, with an adapter set per crop."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures

from .base import VisionEncoder
from .wrapped import WrappedVisionEncoder

_ATTENTION = ("self_attn", "attn")
_NORM = ("norm2", "layer_norm2")


class CropLoRA(nn.Module):
    """A low-rank addition to a linear layer, another one for every crop.

    The last view of each image (the whole image) gets none. Nothing is added
    at first, as ``lora_b`` starts at zero.

    Args:
        crops (int): C, crops per image.
        in_features, out_features (int): of the layer.
        rank (int): r.
        dropout (float): on the input.

    Trainable parameters: C * (r * in_features + r * out_features + 1).
    """

    def __init__(
        self,
        crops: int,
        in_features: int,
        out_features: int,
        *,
        rank: int,
        dropout: float = 0.05,
    ) -> None:
        super().__init__()
        self.lora_a = nn.Parameter(torch.empty(crops, rank, in_features))
        self.lora_b = nn.Parameter(torch.zeros(crops, out_features, rank))
        self.lora_scale = nn.Parameter(torch.ones(crops))
        self.dropout = nn.Dropout(dropout)
        for weight in self.lora_a:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return what is to be added.

        Shape:
            - ``hidden``: (B * (C + 1), T, in_features)
            - output: (B * (C + 1), T, out_features)
        """
        crops = len(self.lora_a)
        views = hidden.unflatten(0, (-1, crops + 1))[:, :crops]
        down = torch.einsum("bcti,cri->bctr", self.dropout(views), self.lora_a)
        scaled = self.lora_b * self.lora_scale[:, None, None]
        up = torch.einsum("bctr,cor->bcto", down, scaled)
        return functional.pad(up, (0, 0, 0, 0, 0, 1)).flatten(0, 1)


class _BlockAdapters(nn.Module):
    """The adapters of one block, added by hooks on its layers."""

    def __init__(
        self, block: nn.Module, crops: int, rank: int, mlp_rank: int, dropout: float
    ) -> None:
        super().__init__()
        attention = _child(block, _ATTENTION)
        layers = [m for m in attention.children() if isinstance(m, nn.Linear)]
        self.attention = nn.ModuleList()
        for layer in layers:
            adapter = CropLoRA(
                crops,
                layer.in_features,
                layer.out_features,
                rank=rank,
                dropout=dropout,
            )
            self.attention.append(adapter)
            layer.register_forward_hook(_Add(adapter))
        norm, width = _child(block, _NORM), layers[0].in_features
        self.mlp = CropLoRA(crops, width, width, rank=mlp_rank, dropout=dropout)
        # The input of the norm is the residual that the MLP's output joins.
        add = _Add(self.mlp)
        norm.register_forward_pre_hook(add.keep)
        block.mlp.register_forward_hook(add)


class _Add:
    """Hook: add an adapter's output to a layer's, from its or a kept input."""

    def __init__(self, adapter: CropLoRA) -> None:
        self.adapter = adapter
        self.kept: torch.Tensor | None = None

    def keep(self, module: nn.Module, inputs: tuple) -> None:
        """Remember what the layer gets, for the next call (a pre-hook)."""
        self.kept = inputs[0]

    def __call__(self, module: nn.Module, inputs: tuple, out: torch.Tensor):
        source, self.kept = (inputs[0] if self.kept is None else self.kept), None
        return out + self.adapter(source)


def _child(block: nn.Module, names: Sequence[str]) -> nn.Module:
    """Return the child of a block that has one of these names."""
    for name in names:
        if hasattr(block, name):
            return getattr(block, name)
    raise ValueError(
        f"MonkeyVisionEncoder: a {type(block).__name__} has none of {list(names)}; "
        "expected blocks of HFVisionEncoder (CLIP, SigLIP) or TimmVisionEncoder."
    )


@MODELS.register_module()
class MonkeyVisionEncoder(WrappedVisionEncoder):
    """An encoder whose layers have a LoRA set for every crop of an image.

    Views come image by image: the crops in order, then the whole image,
    which sees the encoder as it was (``GridWindows`` makes them). At first the
    wrapped encoder is unchanged for all views.

    Paper: Li et al., "Monkey: Image Resolution and Text Label Are Important Things
    for Large Multi-modal Models", CVPR 2024, arXiv 2311.06607. Deviations: towers
    with separate q, k, v layers get an adapter for each; packed ones (timm) as
    published.

    Args:
        vision_encoder (dict | VisionEncoder): config or module; its blocks have an
            attention of linear layers, a second norm and an MLP.
        crops (int): crops per image. Default: 4.
        rank (int): of the adapters of the attention.
        mlp_rank (int): of the adapter from the MLP's residual to its output.
        dropout (float): on the adapters' inputs.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: blocks of another make; views that are no whole images.

    Trainable parameters (packed qkv): blocks * crops * (rank * 6*Dv + mlp_rank *
    2*Dv + 3), beside those of the encoder.
    """

    def __init__(
        self,
        vision_encoder: dict | VisionEncoder,
        *,
        crops: int = 4,
        rank: int = 16,
        mlp_rank: int = 32,
        dropout: float = 0.05,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(vision_encoder, init_cfg)
        self.views_together = crops + 1
        self.lora = dict(r=rank, mlp_rank=mlp_rank, dropout=dropout)
        self.adapters = nn.ModuleList(
            _BlockAdapters(block, crops, rank, mlp_rank, dropout)
            for block in self.blocks
        )

    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-2,)
    ) -> VisionFeatures:
        """Encode whole images: crops and the image, in this order.

        Args:
            pixel_values (torch.Tensor): normalised views.
            select_layers (Sequence[int]): indices into the hidden states.

        Shape:
            - ``pixel_values``: (B * (C + 1), 3, H, W), float, B may be 0
            - every hidden state: (B * (C + 1), P + N, Dv)

        Raises:
            ValueError: when the views are no whole images.
        """
        if len(pixel_values) % self.views_together:
            raise ValueError(
                f"MonkeyVisionEncoder: {len(pixel_values)} views, expected "
                f"{self.views_together} for every image (GridWindows)."
            )
        return super().forward(pixel_values, select_layers)

    @classmethod
    def tiny(cls) -> MonkeyVisionEncoder:
        """Build one around a random CLIP of three layers, four crops."""
        from .hf_vision import HFVisionEncoder

        return cls(HFVisionEncoder.tiny(), rank=2, mlp_rank=4)
