"""One-dimensional signals to tokens: motion sensors and brain activity."""

from __future__ import annotations

import torch
from torch import nn

from mmvlm.registry import MODELS

from .base import ModalityTokenizer


@MODELS.register_module()
class TimeSeriesTokenizer(ModalityTokenizer):
    """A convolution over time, for motion sensors (IMU).

    Paper: OneLLM, arXiv 2312.03700 (6 channels, 2 s at 200 Hz). Deviations: none.

    Args:
        width (int): filled in by the encoder.
        channels (int): of the sensor.
        length (int): samples in time.
        kernel_size (int): samples per window.
        stride (int): distance of windows.
        init_cfg (dict | list | None): mmengine initialisation.

    Trainable parameters: channels * kernel_size * Dv + (N + 1) * Dv.
    """

    def __init__(
        self,
        *,
        width: int,
        channels: int = 6,
        length: int = 400,
        kernel_size: int = 10,
        stride: int = 1,
        init_cfg: dict | list | None = None,
    ) -> None:
        tokens = (length - kernel_size) // stride + 1
        super().__init__(width=width, num_tokens=tokens, init_cfg=init_cfg)
        self.input_shape = (channels, length)
        self.conv = nn.Conv1d(channels, width, kernel_size, stride, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the convolution."""
        return self.conv.weight.dtype

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Tokenize in time order.

        Shape:
            - ``values``: (M, channels, length)
            - output: (M, N, Dv)
        """
        return self.conv(values).transpose(1, 2)


@MODELS.register_module()
class VectorTokenizer(ModalityTokenizer):
    """One linear layer that writes all tokens, for brain activity (fMRI).

    Paper: OneLLM, arXiv 2312.03700 (15724 voxels, 8 tokens). Deviations: none.

    Args:
        width (int): filled in by the encoder.
        length (int): values of an input.
        num_tokens (int): N.
        init_cfg (dict | list | None): mmengine initialisation.

    Trainable parameters: (length + 1) * N * Dv + (N + 1) * Dv.
    """

    def __init__(
        self,
        *,
        width: int,
        length: int = 15724,
        num_tokens: int = 8,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(width=width, num_tokens=num_tokens, init_cfg=init_cfg)
        self.input_shape = (1, length)
        self.proj = nn.Linear(length, num_tokens * width)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the linear layer."""
        return self.proj.weight.dtype

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Tokenize; a channel's values for all tokens stand together.

        Shape:
            - ``values``: (M, 1, length)
            - output: (M, N, Dv)
        """
        flat = self.proj(values[:, 0])
        return flat.view(len(flat), self.width, self.num_tokens).transpose(1, 2)
