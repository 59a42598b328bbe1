"""PINK's adapters: a narrow residual path in front of every block's attention."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.wrapping import wrap_forward
from mmvlm.registry import MODELS

from .base import LanguageModelAdapter
from .layers import attention_of, first_of, with_first


class Bottleneck(nn.Module):
    """``x + B dropout(A x)``; at first it changes nothing.

    Args:
        width (int): channels C.
        hidden (int): channels between A and B.
        dropout (float): behind A.

    Shape:
        - input and output: (..., C)

    Trainable parameters: 2*C*hidden + hidden + C.
    """

    def __init__(self, width: int, hidden: int = 8, dropout: float = 0.05) -> None:
        super().__init__()
        self.tune_adapter_a = nn.Linear(width, hidden)
        self.tune_adapter_b = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.tune_adapter_a.weight)
        for zero in (self.tune_adapter_a.bias, *self.tune_adapter_b.parameters()):
            nn.init.zeros_(zero)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the narrow path."""
        # A model in half precision may hold adapters in full precision.
        narrow = self.tune_adapter_a(x.to(self.tune_adapter_a.weight.dtype))
        return x + self.tune_adapter_b(self.dropout(narrow)).to(x.dtype)


@MODELS.register_module()
class BottleneckAdapter(LanguageModelAdapter):
    """A bottleneck between the first norm and the attention of every block.

    The block's residual keeps its input as it was.

    Paper: Xuan et al., "Pink: Unveiling the Power of Referential Comprehension for
    Multi-modal LLMs", CVPR 2024, arXiv 2310.00582. Deviations: none.

    Args:
        hidden (int): channels of the bottleneck.
        dropout (float): between its maps.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for a model whose blocks have no self-attention by a usual name.

    Trainable parameters: those of :class:`Bottleneck` per block.
    """

    def __init__(
        self,
        *,
        hidden: int = 8,
        dropout: float = 0.05,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.hidden, self.dropout = hidden, dropout
        self.layers = nn.ModuleList()

    def attach(self, language_model: LanguageModel) -> None:
        """Put a bottleneck in front of every block's attention."""
        for block in language_model.blocks:
            layer = Bottleneck(language_model.width, self.hidden, self.dropout)
            self.layers.append(layer)
            wrap_forward(attention_of(block)[1], partial(self._before, layer))

    @staticmethod
    def _before(layer: Bottleneck, inner: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = with_first(args, kwargs, layer(first_of(args, kwargs)))
        return inner(*args, **kwargs)

    @classmethod
    def tiny(cls) -> BottleneckAdapter:
        """Build bottlenecks of four channels."""
        return cls(hidden=4, dropout=0.0)
