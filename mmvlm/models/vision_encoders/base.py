"""The contract of vision encoders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule

from mmvlm.structures import VisionEncoderSpec, VisionFeatures


class VisionEncoder(BaseModule):
    """Pixels to hidden states.

    Subclasses set ``self.spec`` in the constructor and list their transformer
    blocks in ``blocks`` (for "train the last k blocks").
    """

    spec: VisionEncoderSpec
    #: Kinds of inputs that it encodes; with several, ``forward`` takes the kind as a
    #: third argument. A config may set it.
    reads: tuple[str, ...] = ("image",)
    #: Views that are encoded together, because their place in the image matters.
    views_together: int = 1
    #: Whether ``forward`` takes ``grids``: views of packed patches, each with a grid
    #: of its own (see :class:`ViewLayout`).
    takes_grids: bool = False

    @property
    @abstractmethod
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Transformer blocks in order."""

    @abstractmethod
    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-2,)
    ) -> VisionFeatures:
        """Encode views; compute no block deeper than the deepest layer asked for.

        Args:
            pixel_values (torch.Tensor): normalised views.
            select_layers (Sequence[int]): indices into the hidden states, 0 =
                embedding output, negative from the end.

        Shape:
            - ``pixel_values``: (V, 3, H, W), float
            - every hidden state: (V, P + N, Dv)
        """

    @classmethod
    @abstractmethod
    def tiny(cls) -> VisionEncoder:
        """Build a random miniature that runs on a CPU in milliseconds."""
