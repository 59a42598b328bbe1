"""A vision transformer run block by block, as deep as is asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from mmvlm.structures import VisionFeatures

from .base import VisionEncoder


class BlockwiseVisionEncoder(VisionEncoder):
    """Base of encoders that embed patches and then apply a list of blocks.

    Subclasses say how pixels are embedded; blocks beyond the deepest selected
    layer are not computed, and only selected hidden states are kept. Whoever
    has checkpoints of the tower alone finds one name per parameter, whatever
    the library's version.
    """

    @property
    @abstractmethod
    def weight_dtype(self) -> torch.dtype:
        """Dtype of the patch embedding as it is used now (also when sharded)."""

    @abstractmethod
    def embed_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embed patches and positions, prefix tokens on: hidden state 0.

        Shape:
            - ``pixel_values``: (V, 3, H, W), V > 0
            - output: (V, P + N, Dv)
        """

    def run_block(
        self, block: torch.nn.Module, hidden: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        """Apply one block: (V, P + N, Dv) to the same."""
        return block(hidden, **options)

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructor."""
        self.is_init = True

    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-2,)
    ) -> VisionFeatures:
        """Encode views; compute no block deeper than the deepest layer asked for.

        Args:
            pixel_values (torch.Tensor): normalised views; cast to the dtype of
                the weights. Another size than the tower's own interpolates the
                position embeddings where the tower can.
            select_layers (Sequence[int]): indices into the hidden states, 0 =
                embedding output, negative from the end.

        Shape:
            - ``pixel_values``: (V, 3, H, W), float, V may be 0
            - every hidden state: (V, P + N, Dv)

        Raises:
            ValueError: when a layer does not exist, or a side is neither the
                tower's own nor a multiple of the patch size.
        """
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        patch, size = self.spec.patch_size, tuple(pixel_values.shape[-2:])
        # A tower's own size may leave a rest, which its convolution cuts off: SigLIP
        # has patches of 14 in 384 pixels.
        native = size == (self.spec.image_size,) * 2
        if not native and (size[0] % patch or size[1] % patch):
            raise ValueError(
                f"{type(self).__name__}: views of {size[0]} x {size[1]} pixels do not "
                f"divide into patches of {patch}."
            )
        grid, prefix = self.spec.grid(*size), self.spec.num_prefix_tokens
        dtype = self.weight_dtype
        if len(pixel_values) == 0:
            shape = (0, prefix + grid[0] * grid[1], self.spec.width)
            empty = pixel_values.new_zeros(shape, dtype=dtype)
            return VisionFeatures((empty,) * len(layers), layers, grid, prefix)
        states = self.run_blocks(self.embed_patches(pixel_values.to(dtype)), layers)
        return VisionFeatures(states, layers, grid, prefix)

    def run_blocks(
        self, hidden: torch.Tensor, layers: tuple[int, ...], **options: Any
    ) -> tuple[torch.Tensor, ...]:
        """Run as many blocks as are needed; return the states of ``layers``.

        Args:
            hidden (torch.Tensor): hidden state 0.
            layers (tuple[int, ...]): indices of hidden states.
            **options: for every block, such as ``attention_mask``.

        Shape:
            - ``hidden``: (V, P + N, Dv), hidden state 0
            - every output: the same
        """
        kept = {0: hidden} if 0 in layers else {}
        for number, block in enumerate(self.blocks[: max(layers)], 1):
            hidden = self.run_block(block, hidden, **options)
            if number in layers:
                kept[number] = hidden
        return tuple(kept[layer] for layer in layers)
