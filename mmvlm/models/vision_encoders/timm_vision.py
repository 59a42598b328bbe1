"""Vision transformers of timm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log

from mmvlm.models.language_models.peft import add_lora, keep_plain_keys
from mmvlm.models.utils.checkpointing import checkpoint_blocks
from mmvlm.models.utils.hf_loading import on_meta
from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec

from .blockwise import BlockwiseVisionEncoder


@MODELS.register_module()
class TimmVisionEncoder(BlockwiseVisionEncoder):
    """A ``VisionTransformer`` of timm (plain ViT, DeiT, DINOv2, SigLIP, CLIP).

    Args:
        model_name (str): timm's name, ``vit_base_patch16_siglip_224``.
        pretrained (bool): load timm's weights.
        checkpoint_path (str): or a file of weights; empty for none.
        mean, std (Sequence[float] | None): normalisation of RGB in 0-1; None
            takes the model's own.
        lora (dict | None): see :func:`add_lora`.
        gradient_checkpointing (str | int): ``off``, ``all`` or every k-th block.
        init_cfg (dict | list | None): mmengine initialisation.
        **model_args: other arguments of ``timm.create_model``.

    Raises:
        ImportError: without the package timm.
        ValueError: an unknown name, or a model that is no plain transformer.
    """

    def __init__(
        self,
        model_name: str,
        *,
        pretrained: bool = False,
        checkpoint_path: str = "",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        lora: dict | None = None,
        gradient_checkpointing: str | int = "off",
        init_cfg: dict | list | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__(init_cfg)
        try:
            import timm
            from timm.models.eva import Eva
            from timm.models.vision_transformer import VisionTransformer
        except ImportError as error:
            raise ImportError("TimmVisionEncoder needs the package 'timm'.") from error
        if on_meta():  # a dry run has no weights to fill
            pretrained, checkpoint_path = False, ""
        try:
            self.backbone = timm.create_model(
                model_name,
                pretrained=pretrained,
                checkpoint_path=checkpoint_path,
                num_classes=0,
                dynamic_img_size=True,
                **model_args,
            )
        except RuntimeError as error:
            near = timm.list_models(f"*{model_name[:12]}*")[:5]
            raise ValueError(
                f"vision_encoder.model_name='{model_name}': {error} Near: {near}."
            ) from error
        self.is_eva = isinstance(self.backbone, Eva)
        if self.is_eva and self.backbone.rope is not None:
            raise ValueError(
                f"vision_encoder.model_name='{model_name}' has rotary positions, which "
                "its blocks need beside the hidden states; this is not supported."
            )
        if not isinstance(self.backbone, VisionTransformer | Eva):
            raise ValueError(
                f"vision_encoder.model_name='{model_name}' is a "
                f"{type(self.backbone).__name__}, expected a VisionTransformer."
            )
        embed, own = self.backbone.patch_embed, self.backbone.pretrained_cfg
        self.spec = VisionEncoderSpec(
            width=self.backbone.embed_dim,
            num_layers=len(self.backbone.blocks),
            patch_size=embed.patch_size[0],
            image_size=embed.img_size[0],
            num_prefix_tokens=self.backbone.num_prefix_tokens,
            mean=tuple(mean or own.get("mean", (0.5, 0.5, 0.5))),
            std=tuple(std or own.get("std", (0.5, 0.5, 0.5))),
            resample=own.get("interpolation", "bicubic"),
        )
        self.lora = dict(lora) if lora else None
        if lora:
            add_lora(self.backbone, **lora)
            keep_plain_keys(self)
        checkpoint_blocks(self.blocks, gradient_checkpointing)

    def complete_state(self, state: dict[str, torch.Tensor], prefix: str) -> list[str]:
        """Resample learned positions of another image size to this one's grid.

        Args:
            state (dict): of a checkpoint, changed in place.
            prefix (str): of this module's keys in it.

        Returns:
            list[str]: empty, as nothing starts anew.
        """
        key, own = f"{prefix}backbone.pos_embed", self.backbone.pos_embed
        old = state.get(key)
        if old is None or own is None or old.shape[1] == own.shape[1]:
            return []
        from timm.layers import resample_abs_pos_embed

        rows, cols = self.backbone.patch_embed.grid_size
        extra = own.shape[1] - rows * cols
        side = math.isqrt(max(0, old.shape[1] - extra))
        if old.shape[1] == side * side + extra and old.shape[2] == own.shape[2]:
            state[key] = resample_abs_pos_embed(
                old, [rows, cols], [side, side], num_prefix_tokens=extra
            )
            print_log(
                f"{key}: {side} x {side} positions resampled to {rows} x {cols}.",
                "current",
            )
        return []

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Transformer blocks in order."""
        return self.backbone.blocks

    @property
    def weight_dtype(self) -> torch.dtype:
        """Dtype of the patch embedding."""
        return self.backbone.patch_embed.proj.weight.dtype

    def embed_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embed patches and positions, with the first norm where there is one.

        Shape:
            - ``pixel_values``: (V, 3, H, W), V > 0
            - output: (V, P + N, Dv)
        """
        backbone = self.backbone
        hidden = backbone._pos_embed(backbone.patch_embed(pixel_values))
        if self.is_eva:
            return getattr(backbone, "norm_pre", torch.nn.Identity())(hidden[0])
        return backbone.norm_pre(backbone.patch_drop(hidden))

    @staticmethod
    def tiny_config(part: dict, layers: int, ids: dict) -> dict:
        """Return what ``--tiny`` makes of a config: 28 pixels, patches of 7."""
        sizes = dict(img_size=28, patch_size=7, embed_dim=32, depth=layers, num_heads=4)
        return dict(model_name="vit_tiny_patch16_224", **sizes)

    @classmethod
    def tiny(cls, **model_args: Any) -> TimmVisionEncoder:
        """Build a random tower: 3 layers, 32 wide, 32 pixels, patches of 8."""
        small = dict(img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=4)
        return cls("vit_tiny_patch16_224", **{**small, **model_args})
