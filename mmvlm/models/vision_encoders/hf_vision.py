"""CLIP, SigLIP, DINOv2 and BLIP-2's EVA towers of transformers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any

import torch

from mmvlm.models.utils.checkpointing import checkpoint_blocks
from mmvlm.models.utils.hf_loading import (
    as_dtype,
    missing_weights,
    read_weights,
    resolve_config,
)
from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec
from mmvlm.utils.precision import cast_weights

from .blockwise import BlockwiseVisionEncoder

_OPENAI = dict(
    mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
)
_IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_HALF = dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
#: model_type -> class of transformers, normalisation and number of class tokens
_FAMILIES: dict[str, tuple[str, dict, int]] = {
    "clip_vision_model": ("CLIPVisionModel", _OPENAI, 1),
    "siglip_vision_model": ("SiglipVisionModel", _HALF, 0),
    "blip_2_vision_model": ("Blip2VisionModel", _OPENAI, 1),
    "dinov2": ("Dinov2Model", _IMAGENET, 1),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", _IMAGENET, 1),
}


@MODELS.register_module()
class HFVisionEncoder(BlockwiseVisionEncoder):
    """A vision tower of transformers, run block by block.

    Only the blocks up to the deepest selected layer are computed, and only
    selected hidden states are kept. State-dict keys start with ``vision_model.``
    whatever the transformers version (4.x has that prefix, 5.x has not).

    Args:
        name_or_path (str | None): folder or hub name; None builds random
            weights from ``config``.
        config (dict | None): transformers vision config with ``model_type``
            (``clip_vision_model``, ``siglip_vision_model``, ``dinov2``,
            ``dinov2_with_registers``, ``blip_2_vision_model`` for the EVA tower
            of BLIP-2). With a path it must agree with the widths
            found there; on the ``meta`` device it alone is used.
        torch_dtype (str | None): dtype of the weights; None keeps the file's,
            float32 for random weights.
        mean, std (Sequence[float] | None): normalisation of RGB in 0-1; None
            takes the family's.
        lora (dict | None): see :func:`add_lora`.
        gradient_checkpointing (str | int): ``off``, ``all`` or every k-th block.
        final_norm (bool): the last hidden state has passed the tower's last norm.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: unknown ``model_type``, or widths that disagree.

    Example:
        >>> encoder = HFVisionEncoder.tiny()
        >>> encoder(torch.zeros(2, 3, 32, 32), (-2,)).patches().shape
        torch.Size([2, 16, 32])
    """

    def __init__(
        self,
        name_or_path: str | None = None,
        config: dict | None = None,
        *,
        torch_dtype: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        lora: dict | None = None,
        gradient_checkpointing: str | int = "off",
        final_norm: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.norms_last = final_norm
        resolved, load = resolve_config(
            name_or_path, config, "vision_encoder", vision=True
        )
        if resolved.model_type not in _FAMILIES:
            raise ValueError(
                f"vision_encoder: model_type '{resolved.model_type}' is not supported; "
                f"expected one of {sorted(_FAMILIES)}."
            )
        self.config = resolved
        _, normalise, num_class = _FAMILIES[resolved.model_type]
        self.spec = VisionEncoderSpec(
            width=resolved.hidden_size,
            num_layers=resolved.num_hidden_layers,
            patch_size=resolved.patch_size,
            image_size=resolved.image_size,
            num_prefix_tokens=num_class
            + (getattr(resolved, "num_register_tokens", 0) if num_class else 0),
            mean=tuple(mean or normalise["mean"]),
            std=tuple(std or normalise["std"]),
        )
        tower = _build_tower(name_or_path, resolved, load, torch_dtype)
        # 4.x wraps the transformer in `vision_model`, 5.x has it bare.
        self.vision_model = getattr(tower, "vision_model", tower)
        first = inspect.signature(type(self.blocks[0]).forward).parameters.values()
        self._block_kwargs = {
            p.name: None
            for p in list(first)[2:]
            if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        }
        self.lora = dict(lora) if lora else None
        if lora:
            from mmvlm.models.language_models.peft import add_lora, keep_plain_keys

            add_lora(self.vision_model, **lora)
            keep_plain_keys(self)
        checkpoint_blocks(self.blocks, gradient_checkpointing)

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Transformer blocks in order."""
        encoder = self.vision_model.encoder
        return encoder.layers if hasattr(encoder, "layers") else encoder.layer

    @property
    def weight_dtype(self) -> torch.dtype:
        """Dtype of the patch embedding."""
        embeddings = self.vision_model.embeddings
        if hasattr(embeddings, "patch_embeddings"):  # DINOv2
            return embeddings.patch_embeddings.projection.weight.dtype
        return embeddings.patch_embedding.weight.dtype

    def embed_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embed patches and positions, with CLIP's first norm.

        Shape:
            - ``pixel_values``: (V, 3, H, W), V > 0
            - output: (V, P + N, Dv)
        """
        embeddings = self.vision_model.embeddings
        native = tuple(pixel_values.shape[-2:]) == (self.spec.image_size,) * 2
        if native or "dinov2" in self.config.model_type:  # DINOv2 always resizes
            hidden = embeddings(pixel_values)
        else:
            hidden = embeddings(pixel_values, interpolate_pos_encoding=True)
        norm = getattr(self.vision_model, "pre_layrnorm", None)
        return hidden if norm is None else norm(hidden)

    def embed_tokens(
        self, tokens: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Take tokens in the place of patches: hidden state 0 of a CLIP tower.

        Shape:
            - ``tokens``: (V, N, Dv)
            - ``positions``: (1 + N, Dv) or (V, 1 + N, Dv), class token first
            - output: (V, 1 + N, Dv)
        """
        dtype = self.weight_dtype
        prefix = self.vision_model.embeddings.class_embedding.expand(len(tokens), 1, -1)
        hidden = torch.cat([prefix, tokens.to(dtype)], 1) + positions.to(dtype)
        return self.vision_model.pre_layrnorm(hidden)

    @property
    def final_norm(self) -> torch.nn.Module:
        """The norm behind the last block, which hidden states do not include."""
        for name in ("post_layernorm", "layernorm"):
            if hasattr(self.vision_model, name):
                return getattr(self.vision_model, name)
        raise AttributeError(f"{type(self.vision_model).__name__} has no final norm.")

    def run_blocks(
        self, hidden: torch.Tensor, layers: tuple[int, ...], **options: Any
    ) -> tuple[torch.Tensor, ...]:
        """Run the blocks; the last state passes the last norm with ``final_norm``."""
        states = super().run_blocks(hidden, layers, **options)
        last = self.spec.num_layers if self.norms_last else None
        return tuple(
            self.final_norm(state) if layer == last else state
            for layer, state in zip(layers, states, strict=True)
        )

    def run_block(
        self, block: torch.nn.Module, hidden: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        """Apply one block; some versions return a tuple."""
        out = block(hidden, **{**self._block_kwargs, **options})
        return out[0] if isinstance(out, tuple) else out

    @classmethod
    def tiny(
        cls, model_type: str = "clip_vision_model", **fields: Any
    ) -> HFVisionEncoder:
        """Build a random tower: 3 layers, 32 wide, 32 pixels, patches of 8."""
        config = dict(
            model_type=model_type,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        )
        return cls(config={**cls.named_sizes(model_type, config), **fields})

    @staticmethod
    def named_sizes(model_type: str, sizes: dict) -> dict:
        """Return sizes of a tower by the names of its architecture."""
        if "dinov2" not in model_type:
            return sizes
        ratio = sizes["intermediate_size"] // sizes["hidden_size"]
        kept = {k: v for k, v in sizes.items() if k != "intermediate_size"}
        return {**kept, "mlp_ratio": ratio}


def _build_tower(name_or_path, config, load, torch_dtype) -> torch.nn.Module:
    """Build the transformers model of a vision config, with or without weights."""
    import transformers

    cls = getattr(transformers, _FAMILIES[config.model_type][0])
    dtype = as_dtype(torch_dtype)
    if not load:
        return cast_weights(cls(config), dtype or torch.float32)
    path = os.path.expanduser(name_or_path)
    tower, info = cls.from_pretrained(
        path, config=config, torch_dtype=dtype or "auto", output_loading_info=True
    )
    if info["missing_keys"] and os.path.isdir(path):
        _load_without_prefix(tower, path)
    elif info["missing_keys"]:
        raise missing_weights("vision_encoder", name_or_path, info["missing_keys"])
    return tower


def _load_without_prefix(tower: torch.nn.Module, folder: str) -> None:
    """Load a folder whose keys lack, or have too much of, ``vision_model.``."""
    inner = getattr(tower, "vision_model", tower)
    expected = inner.state_dict()

    def short(key: str) -> str:
        return key.rpartition("vision_model.")[2]

    found = read_weights(folder, lambda key: short(key) in expected)
    state = {short(key): value for key, value in found.items()}
    missing = [
        key for key in expected if key not in state and "position_ids" not in key
    ]
    if missing:
        raise missing_weights("vision_encoder", folder, missing)
    inner.load_state_dict(state, strict=False)
