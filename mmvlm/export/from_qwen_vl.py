"""Qwen-VL's and Qwen's official weights under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .importing import Imported, fit_strictly, meta_model, plain_model_cfg, rename_keys
from .state import read_state

_LAYER = r"transformer\.h\.(\d+)\."
_VISUAL = r"transformer\.visual\."
_BLOCK = rf"{_VISUAL}transformer\.resblocks\.(\d+)\."
_OUR_LAYER = r"language_model.model.model.layers.\1."
_OUR_BLOCK = r"vision_encoder.backbone.blocks.\1."
_LEAF = r"(weight|bias)"
#: Official pattern and ours; the whole name must match one.
KEYS: tuple[tuple[str, str], ...] = (
    (r"transformer\.wte\.weight", "language_model.model.model.embed_tokens.weight"),
    (r"transformer\.ln_f\.weight", "language_model.model.model.norm.weight"),
    (r"lm_head\.weight", "language_model.model.lm_head.weight"),
    (rf"{_LAYER}ln_1\.weight", f"{_OUR_LAYER}input_layernorm.weight"),
    (rf"{_LAYER}ln_2\.weight", f"{_OUR_LAYER}post_attention_layernorm.weight"),
    (rf"{_LAYER}attn\.([qkv]_proj)\.{_LEAF}", rf"{_OUR_LAYER}self_attn.\2.\3"),
    (rf"{_LAYER}attn\.c_proj\.weight", f"{_OUR_LAYER}self_attn.o_proj.weight"),
    (rf"{_LAYER}mlp\.w1\.weight", f"{_OUR_LAYER}mlp.up_proj.weight"),
    (rf"{_LAYER}mlp\.w2\.weight", f"{_OUR_LAYER}mlp.gate_proj.weight"),
    (rf"{_LAYER}mlp\.c_proj\.weight", f"{_OUR_LAYER}mlp.down_proj.weight"),
    (rf"{_VISUAL}conv1\.weight", "vision_encoder.backbone.patch_embed.proj.weight"),
    (rf"{_VISUAL}positional_embedding", "vision_encoder.backbone.pos_embed"),
    (rf"{_VISUAL}ln_pre\.{_LEAF}", r"vision_encoder.backbone.norm_pre.\1"),
    (rf"{_BLOCK}ln_([12])\.{_LEAF}", rf"{_OUR_BLOCK}norm\2.\3"),
    (rf"{_BLOCK}attn\.in_proj\.{_LEAF}", rf"{_OUR_BLOCK}attn.qkv.\2"),
    (rf"{_BLOCK}attn\.out_proj\.{_LEAF}", rf"{_OUR_BLOCK}attn.proj.\2"),
    (rf"{_BLOCK}mlp\.c_fc\.{_LEAF}", rf"{_OUR_BLOCK}mlp.fc1.\2"),
    (rf"{_BLOCK}mlp\.c_proj\.{_LEAF}", rf"{_OUR_BLOCK}mlp.fc2.\2"),
    (rf"{_VISUAL}attn_pool\.(.+)", r"connector.\1"),
    (rf"{_VISUAL}(ln_post\..+|proj)", r"connector.\1"),
)
_FUSED = re.compile(r"(.+\.attn\.)c_attn\.(weight|bias)")
_QKV = re.compile(r"vision_encoder\.backbone\.blocks\.\d+\.attn\.qkv\.")
_POSITIONS = "vision_encoder.backbone.pos_embed"


def import_qwen_vl(path: str | Path, model_cfg: Mapping[str, Any]) -> Imported:
    """Read Qwen-VL, Qwen-VL-Chat, or Qwen alone (the language model).

    Args:
        path (str | Path): file, or folder of shards.
        model_cfg (Mapping): our ``model`` config that the weights must fit.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: missing or unexpected weights (listed), or other shapes.
    """
    return fit_qwen_vl(read_state(path), model_cfg, str(path))


def fit_qwen_vl(
    state: Mapping[str, torch.Tensor], model_cfg: Mapping[str, Any], source: str
) -> Imported:
    """Give official weights the names and the order of a model's.

    Args:
        state (Mapping): official names.
        model_cfg (Mapping): our ``model`` config that the weights must fit.
        source (str): for messages.

    Raises:
        ValueError: missing or unexpected weights (listed), or other shapes.
    """
    config = plain_model_cfg(model_cfg)
    config.pop("train_parts", None)  # says what learns, of LoRA too
    model = meta_model(config)
    heads = model.vision_encoder.blocks[0].attn.num_heads
    found = rename_keys(_apart(state), KEYS, source)
    for key, value in found.items():
        if _QKV.match(key):
            found[key] = queries_first(value, heads)
        elif key == _POSITIONS:
            found[key] = value[None]
    target = model.state_dict()
    parts = tuple(sorted({key.partition(".")[0] for key in found}))
    fit_strictly(found, target, parts, source)
    omitted = tuple(sorted(set(target) - set(found)))
    return Imported(found, config, parts, source, omitted)


def queries_first(packed: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder rows from queries, keys and values of each head to those of all heads.

    Args:
        packed (torch.Tensor): weight (3 * D, D) or bias (3 * D,).
        heads (int): that D is cut into.

    Shape:
        - output: as ``packed``
    """
    rows = packed.unflatten(0, (heads, 3, -1))
    return rows.transpose(0, 1).flatten(0, 2).contiguous()


def _apart(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state with the language model's queries, keys and values apart."""
    result = {}
    for key, value in state.items():
        fused = _FUSED.fullmatch(key)
        if fused is None:
            result[key] = value
            continue
        for name, third in zip("qkv", value.chunk(3), strict=True):
            result[f"{fused[1]}{name}_proj.{fused[2]}"] = third.clone()
    return result
