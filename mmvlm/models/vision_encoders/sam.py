"""SAM's image encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from mmvlm.models.utils.checkpointing import checkpoint_blocks
from mmvlm.models.utils.hf_loading import as_dtype, on_meta
from mmvlm.models.utils.sam import NECK, SAM_MEAN, SAM_STD, read_sam
from mmvlm.registry import MODELS
from mmvlm.structures import MapSpec, VisionEncoderSpec, VisionFeatures

from .blockwise import BlockwiseVisionEncoder


@MODELS.register_module()
class SAMVisionEncoder(BlockwiseVisionEncoder):
    """A ViT with windowed attention and a neck; its output is the map ``neck``.

    Views are images whose longer side is the encoder's, normalised; what is missing
    to the square is padded right and below with zeros, so after normalisation, which
    no 8-bit pixel could say.

    Paper: Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643. Runs
    transformers' modules, whose names the weights have.

    Args:
        name_or_path (str | None): folder or hub name of transformers' SAM; None builds
            random weights from ``config``.
        config (dict | None): fields of transformers' ``SamVisionConfig``; on the
            ``meta`` device they alone are used.
        torch_dtype (str | None): dtype of the weights; None keeps the file's, float32
            for random weights.
        gradient_checkpointing (str | int): ``off``, ``all`` or every k-th block.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for neither path nor config.

    Trainable parameters: none as in LISA; ViT-H has 637,026,048.

    Example:
        >>> encoder = SAMVisionEncoder.tiny()
        >>> encoder(torch.zeros(2, 3, 32, 24), (-1,)).maps["neck"].shape
        torch.Size([2, 16, 4, 4])
    """

    def __init__(
        self,
        name_or_path: str | None = None,
        config: dict | None = None,
        *,
        torch_dtype: str | None = None,
        gradient_checkpointing: str | int = "off",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        from transformers.models.sam.configuration_sam import SamVisionConfig
        from transformers.models.sam.modeling_sam import SamVisionEncoder

        if name_or_path is None and config is None:
            raise ValueError("SAMVisionEncoder: give 'name_or_path' or 'config'.")
        if name_or_path is not None and not on_meta():
            self.vision_encoder = read_sam(name_or_path, torch_dtype).vision_encoder
        else:
            fields = SamVisionConfig(**(config or {}))
            self.vision_encoder = SamVisionEncoder(fields)
            self.vision_encoder.to(as_dtype(torch_dtype) or torch.float32)
        found = self.vision_encoder.config
        self.spec = VisionEncoderSpec(
            width=found.hidden_size,
            num_layers=found.num_hidden_layers,
            patch_size=found.patch_size,
            image_size=found.image_size,
            mean=SAM_MEAN,
            std=SAM_STD,
            resample="bilinear",
            maps=(MapSpec(NECK, found.output_channels),),
        )
        checkpoint_blocks(self.blocks, gradient_checkpointing)

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Transformer blocks in order."""
        return self.vision_encoder.layers

    @property
    def weight_dtype(self) -> torch.dtype:
        """Dtype of the patch embedding."""
        return self.vision_encoder.patch_embed.projection.weight.dtype

    def embed_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embed patches and add positions.

        Shape:
            - ``pixel_values``: (V, 3, S, S)
            - output: (V, N, Dv)
        """
        hidden = self.vision_encoder.patch_embed(pixel_values)
        if self.vision_encoder.pos_embed is not None:
            hidden = hidden + self.vision_encoder.pos_embed
        return hidden.flatten(1, 2)

    def run_block(
        self, block: torch.nn.Module, hidden: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        """Apply one block, which takes rows and columns: (V, N, Dv) to the same."""
        out = block(self._rows(hidden), **options)
        return (out[0] if isinstance(out, tuple) else out).flatten(1, 2)

    def _rows(self, hidden: torch.Tensor) -> torch.Tensor:
        side = self.spec.image_size // self.spec.patch_size
        return hidden.unflatten(1, (side, side))

    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-1,)
    ) -> VisionFeatures:
        """Encode views; all blocks run, as the neck stands behind the last one.

        Shape:
            - ``pixel_values``: (V, 3, h, w), float; the longer side is the encoder's
            - every hidden state: (V, N, Dv), of the padded square
            - ``maps["neck"]``: (V, C, S / patch, S / patch)

        Raises:
            ValueError: for views of another size.
        """
        side, (height, width) = self.spec.image_size, pixel_values.shape[-2:]
        if max(height, width) != side:
            raise ValueError(
                f"SAMVisionEncoder: views of {height} x {width} pixels, but the longer "
                f"side must be {side}. Use SAMViews in the pipeline."
            )
        square = pad(pixel_values, (0, side - width, 0, side - height))
        last = self.spec.num_layers
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        if not len(square):
            return self._nothing(square, layers)
        hidden = self.embed_patches(square.to(self.weight_dtype))
        *states, end = self.run_blocks(hidden, (*layers, last))
        neck = self.vision_encoder.neck(self._rows(end))
        grid = self.spec.grid(side, side)
        return VisionFeatures(tuple(states), layers, grid, maps={NECK: neck})

    def _nothing(self, square: torch.Tensor, layers: tuple) -> VisionFeatures:
        grid, dtype = self.spec.grid(*square.shape[-2:]), self.weight_dtype
        shape = (0, grid[0] * grid[1], self.spec.width)
        states = (square.new_zeros(shape, dtype=dtype),) * len(layers)
        width = self.spec.maps[0].width
        neck = square.new_zeros((0, width, *grid), dtype=dtype)
        return VisionFeatures(states, layers, grid, maps={NECK: neck})

    #: Fields of the miniature's config.
    tiny_fields = dict(  # noqa: RUF012
        hidden_size=32,
        output_channels=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        window_size=2,
        global_attn_indexes=[1],
        mlp_dim=64,
        num_pos_feats=8,
    )

    @classmethod
    def tiny_config(cls, part: dict, layers: int, ids: dict) -> dict:
        """Return what ``--tiny`` makes of a config."""
        return dict(config=dict(cls.tiny_fields))

    @classmethod
    def tiny(cls) -> SAMVisionEncoder:
        """Build a random miniature: 32 wide, 2 blocks, 32 x 32 pixels."""
        return cls(config=dict(cls.tiny_fields))
