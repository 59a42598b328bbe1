"""PINK: an encoder with a bottleneck in front of every attention that is used."""

from __future__ import annotations

import torch
from torch import nn

from mmvlm.models.language_models.adapters.bottleneck import Bottleneck
from mmvlm.registry import MODELS

from .base import VisionEncoder
from .lavin import attention_norm
from .wrapped import WrappedVisionEncoder


@MODELS.register_module()
class AdaptedVisionEncoder(WrappedVisionEncoder):
    """An encoder whose attentions read through bottlenecks.

    Each block's attention gets ``bottleneck(norm(x))`` and the residual keeps ``x``.
    At first the wrapped encoder is unchanged.

    Paper: Xuan et al., "Pink: Unveiling the Power of Referential Comprehension for
    Multi-modal LLMs", CVPR 2024, arXiv 2310.00582. Deviations: none.

    Args:
        vision_encoder (dict | VisionEncoder): config or module; its blocks have a
            norm in front of the attention.
        hidden, dropout: see :class:`Bottleneck`.
        skip_last (int): blocks at the end without bottleneck, as nothing reads them
            (1 for hidden state -2).
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: blocks of another make, or fewer than ``skip_last``.

    Trainable parameters: those of :class:`Bottleneck` per block, beside those of the
    encoder.
    """

    def __init__(
        self,
        vision_encoder: dict | VisionEncoder,
        *,
        hidden: int = 8,
        dropout: float = 0.05,
        skip_last: int = 1,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(vision_encoder, init_cfg)
        blocks = list(self.blocks)
        if not 0 <= skip_last < len(blocks):
            raise ValueError(
                f"AdaptedVisionEncoder: skip_last={skip_last} of {len(blocks)} blocks."
            )
        self.adapters = nn.ModuleList()
        for block in blocks[: len(blocks) - skip_last]:
            bottleneck = Bottleneck(self.spec.width, hidden, dropout)
            self.adapters.append(bottleneck)
            attention_norm(block).register_forward_hook(_Adapt(bottleneck))

    def complete_state(self, state: dict[str, torch.Tensor], prefix: str) -> list[str]:
        """Add the start of the bottlenecks to a checkpoint of the tower alone."""
        own = f"{prefix}adapters."
        if not any(key.startswith(prefix) for key in state) or any(
            key.startswith(own) for key in state
        ):
            return []
        start = self.adapters.state_dict()
        state.update({own + name: value for name, value in start.items()})
        return ["adapters"]

    @classmethod
    def tiny(cls) -> AdaptedVisionEncoder:
        """Build one around a random CLIP of three layers."""
        from .hf_vision import HFVisionEncoder

        return cls(HFVisionEncoder.tiny(), hidden=4, dropout=0.0)


class _Adapt:
    """Hook: adapt what the norm in front of an attention gives."""

    def __init__(self, bottleneck: Bottleneck) -> None:
        self.bottleneck = bottleneck

    def __call__(self, module: nn.Module, inputs: tuple, out: torch.Tensor):
        return self.bottleneck(out)
