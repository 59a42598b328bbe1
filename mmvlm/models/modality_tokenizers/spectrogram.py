"""Audio spectrograms to tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmvlm.registry import MODELS

from .base import ModalityTokenizer


@MODELS.register_module()
class SpectrogramTokenizer(ModalityTokenizer):
    """A convolution over overlapping windows of a log-mel spectrogram.

    Paper: OneLLM, arXiv 2312.03700. Deviations: none.

    Args:
        width (int): filled in by the encoder.
        input_size (Sequence[int]): mel bands and frames.
        kernel_size (int): side of a window.
        stride (int): distance of windows.
        init_cfg (dict | list | None): mmengine initialisation.

    Trainable parameters: (kernel_size**2 + 1) * Dv + (N + 1) * Dv.

    Example:
        >>> SpectrogramTokenizer(width=32).num_tokens
        1212
    """

    def __init__(
        self,
        *,
        width: int,
        input_size: Sequence[int] = (128, 1024),
        kernel_size: int = 16,
        stride: int = 10,
        init_cfg: dict | list | None = None,
    ) -> None:
        rows, cols = ((side - kernel_size) // stride + 1 for side in input_size)
        super().__init__(width=width, num_tokens=rows * cols, init_cfg=init_cfg)
        self.input_shape = (1, *input_size)
        self._grid = (rows, cols)
        self.conv = nn.Conv2d(1, width, kernel_size, stride)

    @property
    def grid(self) -> tuple[int, int]:
        """Windows over mel bands, windows over time."""
        return self._grid

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the convolution."""
        return self.conv.weight.dtype

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Tokenize, row by row.

        Shape:
            - ``values``: (M, 1, bands, frames)
            - output: (M, N, Dv)
        """
        return self.conv(values).flatten(2).transpose(1, 2)
