"""The vision towers of Qwen2-VL and Qwen2.5-VL, which take images of any size."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import torch

from mmvlm.models.language_models.peft import add_lora, keep_plain_keys
from mmvlm.models.utils.checkpointing import checkpoint_blocks
from mmvlm.models.utils.hf_loading import (
    as_dtype,
    missing_weights,
    read_weights,
    resolve_config,
)
from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec, VisionFeatures
from mmvlm.utils.precision import cast_weights

from .base import VisionEncoder

_TOWERS = {
    "qwen2_vl": "Qwen2VisionTransformerPretrainedModel",
    "qwen2_5_vl": "Qwen2_5_VisionTransformerPretrainedModel",
}


@MODELS.register_module()
class Qwen2VLVisionEncoder(VisionEncoder):
    """A tower of transformers over the patches of images at their own resolution.

    Patches of all images lie in one tensor; attention stays inside each image (and, in
    most blocks of Qwen2.5-VL, inside its windows). The tower's own merger, which joins
    blocks of patches to tokens, is part of it: ``merger`` in ``train_parts``. The only
    hidden state is what it gives. ``spec.patch_size`` are the pixels of a token.

    Paper: Wang et al., "Qwen2-VL: Enhancing Vision-Language Model's Perception of the
    World at Any Resolution", 2024, arXiv 2409.12191. Deviations: none.

    Args:
        name_or_path (str | None): folder or hub name of a whole Qwen2-VL or
            Qwen2.5-VL; None builds random weights from ``config``.
        config (dict | None): transformers config with ``model_type`` (``qwen2_vl`` or
            ``qwen2_5_vl``) and ``vision_config``.
        torch_dtype (str | None): dtype of the weights; None: float32, or the file's.
        lora (dict | None): see :func:`add_lora`.
        gradient_checkpointing (str | int): ``off``, ``all`` or every k-th block.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for another ``model_type``, or neither path nor config.
    """

    #: Patches of images at their own resolution, see ``structures.native_resolution``.
    native_resolution = True
    takes_grids = True

    def __init__(
        self,
        name_or_path: str | None = None,
        config: dict | None = None,
        *,
        torch_dtype: str | None = None,
        lora: dict | None = None,
        gradient_checkpointing: str | int = "off",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.visual = _build_tower(name_or_path, config, torch_dtype)
        self.config = own = self.visual.config
        merged = own.spatial_merge_size * own.patch_size
        self.spec = VisionEncoderSpec(
            width=getattr(own, "out_hidden_size", own.hidden_size),
            num_layers=own.depth,
            patch_size=merged,
            image_size=16 * merged,
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
        )
        self.lora = dict(lora) if lora else None
        if lora:
            add_lora(self.visual, **lora)
            keep_plain_keys(self)
        checkpoint_blocks(self.blocks, gradient_checkpointing)

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Transformer blocks in order."""
        return self.visual.blocks

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructor."""
        self.is_init = True

    def forward(
        self,
        pixel_values: torch.Tensor,
        select_layers: Sequence[int] = (-1,),
        grids: Sequence[tuple[int, int, int]] = (),
    ) -> VisionFeatures:
        """Encode images.

        Args:
            pixel_values (torch.Tensor): normalised patches, block by block.
            select_layers (Sequence[int]): the last one, in any number.
            grids (Sequence[tuple[int, int, int]]): patches (t, h, w) of every image.

        Shape:
            - ``pixel_values``: (P, 3, p, p) of images, which stand for all frames of a
              step in time, or (P, 3 * frames * p * p); P may be 0
            - every hidden state: (1, N, Dv), tokens of all images one after the other;
              ``grids`` of the output are theirs

        Raises:
            ValueError: for another layer, or patches that are not those of the grids.
        """
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        if set(layers) != {self.spec.num_layers}:
            raise ValueError(
                f"{type(self).__name__} gives its last layer only; set connector="
                f"dict(select_layers=[-1]), got {list(select_layers)}."
            )
        sizes = torch.tensor([tuple(grid) for grid in grids]).view(-1, 3)
        if (expected := int(sizes.prod(1).sum())) != len(pixel_values):
            raise ValueError(
                f"{type(self).__name__}: {len(pixel_values)} patches for grids of "
                f"{expected}. Put NativeResolution into the pipeline."
            )
        if pixel_values.dim() == 4:
            frames = self.config.temporal_patch_size
            pixel_values = pixel_values[:, :, None].expand(-1, -1, frames, -1, -1)
        dtype, device = self.visual.patch_embed.proj.weight.dtype, pixel_values.device
        if expected:
            flat = pixel_values.to(dtype).flatten(1)
            states = self.visual(flat, grid_thw=sizes.to(device))
            # transformers 5 gives the blocks' output beside the merged tokens.
            states = getattr(states, "pooler_output", states)[None]
        else:
            states = pixel_values.new_zeros(1, 0, self.spec.width, dtype=dtype)
        merge = self.config.spatial_merge_size
        merged = [(t, h // merge, w // merge) for t, h, w in grids]
        count = states.shape[1]
        return VisionFeatures(
            (states,) * len(layers), layers, (1, count), grids=tuple(merged)
        )

    @classmethod
    def tiny_config(cls, part: dict, layers: int, ids: dict) -> dict:
        """Return what ``--tiny`` makes of a config: that of :meth:`tiny`."""
        return dict(config=_tiny_fields((part.get("config") or {})["model_type"]))

    @classmethod
    def tiny(cls, model_type: str = "qwen2_vl", **fields: Any) -> Qwen2VLVisionEncoder:
        """Build a random tower: 2 blocks, 32 wide, patches of 4 pixels."""
        config = _tiny_fields(model_type)
        config["vision_config"].update(fields)
        return cls(config=config)


def _tiny_fields(model_type: str) -> dict:
    config = dict(depth=2, num_heads=2, patch_size=4)
    if model_type == "qwen2_vl":
        config.update(embed_dim=32, hidden_size=48, mlp_ratio=2)
    else:
        config.update(hidden_size=32, out_hidden_size=48, intermediate_size=64)
        config.update(window_size=16, fullatt_block_indexes=[1])
    return dict(model_type=model_type, vision_config=config)


def _build_tower(
    name_or_path: str | None, config: dict | None, torch_dtype: str | None
) -> torch.nn.Module:
    """Build the tower of a config, or that of a whole model at a path."""
    resolved, load = resolve_config(name_or_path, config, "vision_encoder")
    model_type, dtype = resolved.model_type, as_dtype(torch_dtype)
    if model_type not in _TOWERS:
        raise ValueError(
            f"vision_encoder: model_type '{model_type}' is not supported; expected one "
            f"of {sorted(_TOWERS)}."
        )
    home = f"transformers.models.{model_type}.modeling_{model_type}"
    tower_class = getattr(importlib.import_module(home), _TOWERS[model_type])
    tower = tower_class._from_config(resolved.vision_config)
    if not load:
        return cast_weights(tower, dtype or torch.float32)
    state = _tower_weights(os.path.expanduser(name_or_path))
    if missing := set(tower.state_dict()) - set(state):
        raise missing_weights("vision_encoder", name_or_path, missing)
    tower.load_state_dict(state)
    return cast_weights(tower, dtype or next(iter(state.values())).dtype)


def _tower_weights(path: str) -> dict[str, torch.Tensor]:
    """Read the tower's weights out of those of a whole model."""
    if not os.path.isdir(path):
        from huggingface_hub import snapshot_download

        path = snapshot_download(path, allow_patterns=["*.safetensors", "*.json"])
    state = read_weights(path, lambda key: "visual." in key)
    return {key.partition("visual.")[2]: value for key, value in state.items()}
