"""SAM 2's image encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from mmvlm.models.utils.hf_loading import as_dtype, on_meta
from mmvlm.models.utils.sam import (
    FINE,
    NECK,
    SAM_MEAN,
    SAM_STD,
    read_sam,
    sam2,
    sam2_vision_config,
)
from mmvlm.registry import MODELS
from mmvlm.structures import MapSpec, VisionEncoderSpec, VisionFeatures

from .base import VisionEncoder


@MODELS.register_module()
class SAM2VisionEncoder(VisionEncoder):
    """Hiera and a feature pyramid; its maps are ``neck`` (stride 16) and two finer.

    Views are images stretched to a square. Hidden states are those of Hiera's last
    stage (stride 32): state 0 stands behind the block that begins it.

    Paper: Ravi et al., "SAM 2: Segment Anything in Images and Videos", ICLR 2025,
    arXiv 2408.00714. Runs transformers' modules, whose names the weights have.

    Args:
        name_or_path (str | None): folder or hub name of transformers' SAM 2; None
            builds random weights from ``config``.
        config (dict | None): fields of transformers' ``Sam2VisionConfig``; on the
            ``meta`` device they alone are used.
        torch_dtype (str | None): dtype of the weights; None keeps the file's, float32
            for random weights.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ImportError: for a transformers without SAM 2.
        ValueError: for neither path nor config.

    Trainable parameters: none as in Sa2VA; Hiera-L has 212,703,280.

    Example:
        >>> encoder = SAM2VisionEncoder.tiny()
        >>> encoder(torch.zeros(2, 3, 64, 64), (-1,)).maps["neck"].shape
        torch.Size([2, 32, 4, 4])
    """

    def __init__(
        self,
        name_or_path: str | None = None,
        config: dict | None = None,
        *,
        torch_dtype: str | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        library = sam2()
        if name_or_path is None and config is None:
            raise ValueError("SAM2VisionEncoder: give 'name_or_path' or 'config'.")
        if name_or_path is not None and not on_meta():
            model = read_sam(name_or_path, torch_dtype, library.Sam2Model)
            self.vision_encoder = model.vision_encoder
        else:
            fields = sam2_vision_config(config or {})
            self.vision_encoder = library.Sam2VisionModel(fields)
            self.vision_encoder.to(as_dtype(torch_dtype) or torch.float32)
        found, width = self.vision_encoder.config, self._backbone.config
        self._starts = len(self._backbone.blocks) - width.blocks_per_stage[-1]
        channels = found.fpn_hidden_size
        maps = zip((*FINE, NECK), (8, 4, 2), strict=True)
        self.spec = VisionEncoderSpec(
            width=width.embed_dim_per_stage[-1],
            num_layers=width.blocks_per_stage[-1] - 1,
            patch_size=32,
            image_size=width.image_size[0],
            mean=SAM_MEAN,
            std=SAM_STD,
            resample="bicubic",
            maps=tuple(MapSpec(name, channels, cells) for name, cells in maps),
            stretched=True,
        )

    @property
    def _backbone(self) -> torch.nn.Module:
        return self.vision_encoder.backbone

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Blocks of the last stage behind the one that begins it."""
        return self._backbone.blocks[self._starts + 1 :]

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructor."""
        self.is_init = True

    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-1,)
    ) -> VisionFeatures:
        """Encode views; all blocks run, as the pyramid reads every stage.

        Shape:
            - ``pixel_values``: (V, 3, S, S), float
            - every hidden state: (V, N, Dv), of the last stage
            - ``maps["neck"]``: (V, C, S / 16, S / 16); ``middle`` has twice, ``fine``
              four times as many cells a side

        Raises:
            ValueError: for views of another size.
        """
        side, size = self.spec.image_size, tuple(pixel_values.shape[-2:])
        if size != (side, side):
            raise ValueError(
                f"SAM2VisionEncoder: views of {size[0]} x {size[1]} pixels, but it "
                f"takes {side} x {side}. Use SAMViews in the pipeline."
            )
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        weight = self._backbone.patch_embed.projection.weight
        pixels = pixel_values.to(weight.dtype)
        if not len(pixels):  # the pyramid's position encoding needs a view
            whole = self(pixels.new_zeros(1, 3, side, side), layers)
            return whole.map(lambda state: state[:0])
        last: list[torch.Tensor] = []
        hooks = [
            block.register_forward_hook(lambda *call: last.append(_first(call[2])))
            for block in self._backbone.blocks[self._starts :]
        ]
        try:
            output = self.vision_encoder(pixels, return_dict=True)
        finally:
            for hook in hooks:
                hook.remove()
        maps = dict(zip((*FINE, NECK), output.fpn_hidden_states, strict=True))
        states = tuple(last[layer].flatten(1, 2) for layer in layers)
        return VisionFeatures(states, layers, self.spec.grid(side, side), maps=maps)

    #: Fields of the miniature's config.
    tiny_fields = dict(  # noqa: RUF012
        backbone_config=dict(
            hidden_size=8,
            image_size=[64, 64],
            window_positional_embedding_background_size=[4, 4],
            blocks_per_stage=[1, 1, 1, 3],
            embed_dim_per_stage=[8, 16, 24, 32],
            num_attention_heads_per_stage=[1, 1, 2, 2],
            window_size_per_stage=[4, 2, 2, 2],
            global_attention_blocks=[4],
        ),
        backbone_channel_list=[32, 24, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )

    @classmethod
    def tiny_config(cls, part: dict, layers: int, ids: dict) -> dict:
        """Return what ``--tiny`` makes of a config."""
        return dict(config=copy.deepcopy(cls.tiny_fields))

    @classmethod
    def tiny(cls) -> SAM2VisionEncoder:
        """Build a random miniature: 6 blocks in 4 stages, 64 x 64 pixels."""
        return cls(config=dict(cls.tiny_fields))


def _first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output
