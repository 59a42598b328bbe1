"""The contract of modality tokenizers: raw input to the tokens of an encoder."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from mmengine.model import BaseModule
from torch import nn


class ModalityTokenizer(BaseModule):
    """Turn one modality into a sequence that an image encoder's blocks can take.

    Args:
        width (int): channels of the encoder (Dv), filled in by it.
        num_tokens (int): N, without the class token.
        init_cfg (dict | list | None): mmengine initialisation.

    Trainable parameters: (N + 1) * Dv for the positions, and the subclass's own.
    """

    #: Shape of one input, None where the size is free; for messages.
    input_shape: tuple[int | None, ...]
    #: Whether one input is several images that the encoder sees one by one.
    is_frames: ClassVar[bool] = False

    def __init__(
        self, *, width: int, num_tokens: int, init_cfg: dict | list | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.width = width
        self.num_tokens = num_tokens
        #: Row 0 belongs to the class token.
        self.positions = nn.Parameter(torch.empty(num_tokens + 1, width))
        nn.init.normal_(self.positions, std=0.02)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens; one row for sequences."""
        return 1, self.num_tokens

    def check(self, values: torch.Tensor, modality: str) -> None:
        """Refuse inputs of another shape.

        Raises:
            ValueError: naming the modality and both shapes.
        """
        got, expected = tuple(values.shape[1:]), self.input_shape
        fits = len(got) == len(expected) and all(
            want in (None, have) for have, want in zip(got, expected, strict=True)
        )
        if not fits:
            shown = ", ".join("any" if side is None else str(side) for side in expected)
            raise ValueError(
                f"{modality}: one input has shape {got}, {type(self).__name__} takes "
                f"({shown})."
            )

    @abstractmethod
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Tokenize.

        Shape:
            - ``values``: (M, ...), each of ``input_shape``
            - output: (M, N, Dv), without class token and positions
        """

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Dtype of the weights that meet the input."""
