"""Vision transformers of mmpretrain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mmvlm.models.language_models.peft import add_lora, keep_plain_keys
from mmvlm.models.utils.checkpointing import checkpoint_blocks
from mmvlm.models.utils.hf_loading import on_meta
from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec

from .blockwise import BlockwiseVisionEncoder


@MODELS.register_module()
class MMPretrainVisionEncoder(BlockwiseVisionEncoder):
    """A ``VisionTransformer`` backbone of mmpretrain.

    Args:
        backbone (dict): config of the backbone; ``type`` with or without the
            prefix ``mmpretrain.``. What concerns its outputs (``out_indices``,
            ``out_type``) has no effect: layers are chosen by the connector.
        checkpoint (str | None): file or URL with the backbone's weights, whole
            classifiers too (keys below ``backbone.``).
        mean, std (Sequence[float]): normalisation of RGB in 0-1; mmpretrain keeps
            it in its pipelines, not in the model. Default: ImageNet's.
        lora (dict | None): see :func:`add_lora`.
        gradient_checkpointing (str | int): ``off``, ``all`` or every k-th block.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ImportError: without the package mmpretrain.
        ValueError: a backbone that is no ``VisionTransformer``, or weights that
            do not fit.
    """

    def __init__(
        self,
        backbone: dict,
        *,
        checkpoint: str | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        lora: dict | None = None,
        gradient_checkpointing: str | int = "off",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.backbone = _build_backbone(dict(backbone))
        if checkpoint is not None and not on_meta():
            _load_backbone(self.backbone, checkpoint)
        elif not on_meta():
            self.backbone.init_weights()
        kernel = self.backbone.patch_embed.projection.kernel_size
        self.spec = VisionEncoderSpec(
            width=self.backbone.embed_dims,
            num_layers=len(self.backbone.layers),
            patch_size=kernel[0],
            image_size=self.backbone.img_size[0],
            num_prefix_tokens=self.backbone.num_extra_tokens,
            mean=tuple(mean),
            std=tuple(std),
        )
        self.lora = dict(lora) if lora else None
        if lora:
            add_lora(self.backbone, **lora)
            keep_plain_keys(self)
        checkpoint_blocks(self.blocks, gradient_checkpointing)

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Transformer blocks in order."""
        return self.backbone.layers

    @property
    def weight_dtype(self) -> torch.dtype:
        """Dtype of the patch embedding."""
        return self.backbone.patch_embed.projection.weight.dtype

    def embed_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embed patches and positions, with CLIP's first norm where configured.

        Shape:
            - ``pixel_values``: (V, 3, H, W), V > 0
            - output: (V, P + N, Dv)
        """
        backbone = self.backbone
        hidden, grid = backbone.patch_embed(pixel_values)
        if backbone.cls_token is not None:
            token = backbone.cls_token.expand(len(hidden), -1, -1)
            hidden = torch.cat([token, hidden], 1)
        hidden = hidden + backbone.resize_pos_embed(
            backbone.pos_embed,
            backbone.patch_resolution,
            grid,
            mode=backbone.interpolate_mode,
            num_extra_tokens=backbone.num_extra_tokens,
        )
        return backbone.pre_norm(backbone.drop_after_pos(hidden))

    @staticmethod
    def tiny_config(part: dict, layers: int, ids: dict) -> dict:
        """Return what ``--tiny`` makes of a config: 28 pixels, patches of 7."""
        arch = dict(embed_dims=32, num_layers=layers, num_heads=4)
        arch["feedforward_channels"] = 64
        sizes = dict(arch=arch, img_size=28, patch_size=7)
        return dict(backbone=dict(type="mmpretrain.VisionTransformer", **sizes))

    @classmethod
    def tiny(cls, **fields: Any) -> MMPretrainVisionEncoder:
        """Build a random tower: 3 layers, 32 wide, 32 pixels, patches of 8."""
        arch = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)
        small = dict(type="VisionTransformer", arch=arch, img_size=32, patch_size=8)
        return cls({**small, **fields})


def _build_backbone(config: dict) -> torch.nn.Module:
    """Build a mmpretrain backbone; imports mmpretrain."""
    try:
        from mmpretrain.models.backbones import VisionTransformer
        from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
    except ImportError as error:
        raise ImportError(
            "MMPretrainVisionEncoder needs the package 'mmpretrain'."
        ) from error
    config["type"] = str(config.get("type", "VisionTransformer")).removeprefix(
        "mmpretrain."
    )
    # Under another default scope mmpretrain would look its own layers up there.
    config.setdefault("_scope_", "mmpretrain")
    backbone = MMPRETRAIN_MODELS.build(config)
    if not isinstance(backbone, VisionTransformer):
        raise ValueError(
            f"vision_encoder.backbone.type='{config['type']}': expected a "
            "VisionTransformer of mmpretrain."
        )
    return backbone


def _load_backbone(backbone: torch.nn.Module, path: str) -> None:
    """Load weights of a backbone or of a classifier that holds it, strictly."""
    from mmengine.runner import CheckpointLoader

    state = CheckpointLoader.load_checkpoint(path, map_location="cpu")
    state = state.get("state_dict", state)
    inner = {
        key.removeprefix("backbone."): value
        for key, value in state.items()
        if key.startswith("backbone.")
    }
    missing, unexpected = backbone.load_state_dict(inner or state, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"vision_encoder.checkpoint='{path}' does not fit the backbone: missing "
            f"{missing[:5]} ({len(missing)}), unexpected {unexpected[:5]} "
            f"({len(unexpected)})."
        )
