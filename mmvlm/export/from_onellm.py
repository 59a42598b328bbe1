"""OneLLM's official keys under our names.

Official weights carry the prefix ``llma.``; the tower has open_clip's names, the
language model Meta's, whose query and key rows are ordered for interleaved rotary
positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmvlm.export.importing import Imported, fit_strictly, meta_state
from mmvlm.export.state import read_file, read_state

PREFIX = "llma."
_TOWER = "vision_encoder.encoder.vision_model."
_LM = "language_model.model.model."
_BLOCK = r"clip\.visual\.transformer\.resblocks\.(\d+)\."
_OUR_BLOCK = _TOWER + r"encoder.layers.\1."
#: (official pattern, our key); the whole key must match one pattern.
KEYS: tuple[tuple[str, str], ...] = (
    # A stage-I file names its only expert after the modality.
    (r"resample_layers\.(?:image|(\d+))\.(\d+)\.(.+)", "experts"),
    (r"resample_tokens\.(\w+)", r"connector.resample_tokens.\1"),
    (r"clip_proj1\.(.+)", r"connector.proj_in.\1"),
    (r"clip_proj2\.(.+)", r"connector.proj_out.\1"),
    (r"routers\.(.+)", r"connector.routers.\1"),
    (r"start_tag\.(\w+)", r"connector.start_tag.\1"),
    (r"end_tag\.(\w+)", r"connector.end_tag.\1"),
    (r"conv1\.point\.conv1\.(\w+)", r"vision_encoder.tokenizers.point.conv.\1"),
    (r"conv1\.fmri\.(\w+)", r"vision_encoder.tokenizers.fmri.proj.\1"),
    (
        r"conv1\.(\w+)\.(\w+)",
        r"vision_encoder.tokenizers.\1.conv.\2",
    ),
    (r"positional_embedding\.(\w+)", r"vision_encoder.tokenizers.\1.positions"),
    (r"clip\.visual\.class_embedding", _TOWER + "embeddings.class_embedding"),
    (
        r"clip\.visual\.positional_embedding",
        _TOWER + "embeddings.position_embedding.weight",
    ),
    (r"clip\.visual\.conv1\.weight", _TOWER + "embeddings.patch_embedding.weight"),
    (r"clip\.visual\.ln_pre\.(\w+)", _TOWER + r"pre_layrnorm.\1"),
    (r"clip\.visual\.ln_post\.(\w+)", _TOWER + r"post_layernorm.\1"),
    (_BLOCK + r"ln_([12])\.(\w+)", _OUR_BLOCK + r"layer_norm\2.\3"),
    (_BLOCK + r"mlp\.c_fc\.(\w+)", _OUR_BLOCK + r"mlp.fc1.\2"),
    (_BLOCK + r"mlp\.c_proj\.(\w+)", _OUR_BLOCK + r"mlp.fc2.\2"),
    (_BLOCK + r"attn\.out_proj\.(\w+)", _OUR_BLOCK + r"self_attn.out_proj.\2"),
    (r"tok_embeddings\.weight", _LM + "embed_tokens.weight"),
    (r"norm\.weight", _LM + "norm.weight"),
    (r"output\.weight", "language_model.model.lm_head.weight"),
    (r"layers\.(\d+)\.attention\.w([qkvo])\.weight", "attention"),
    (
        r"layers\.(\d+)\.feed_forward\.w1\.weight",
        _LM + r"layers.\1.mlp.gate_proj.weight",
    ),
    (
        r"layers\.(\d+)\.feed_forward\.w2\.weight",
        _LM + r"layers.\1.mlp.down_proj.weight",
    ),
    (r"layers\.(\d+)\.feed_forward\.w3\.weight", _LM + r"layers.\1.mlp.up_proj.weight"),
    (
        r"layers\.(\d+)\.attention_norm\.weight",
        _LM + r"layers.\1.input_layernorm.weight",
    ),
    (
        r"layers\.(\d+)\.ffn_norm\.weight",
        _LM + r"layers.\1.post_attention_layernorm.weight",
    ),
)
_PATTERNS = tuple((re.compile(pattern), target) for pattern, target in KEYS)
#: What OneLLM stores but never uses: CLIP's text half and output projection.
UNUSED = re.compile(r"clip\.(?!visual\.)|clip\.visual\.proj$|rope\.freqs$")
_FUSED = re.compile(_BLOCK + r"attn\.in_proj_(weight|bias)")


def rotate_half_rows(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Reorder query or key rows from interleaved to half-rotation positions.

    Shape:
        - ``weight``: (heads * C, D), C channels per head
        - output: the same
    """
    rows = weight.unflatten(0, (num_heads, -1, 2))
    return rows.transpose(1, 2).flatten(0, 2).contiguous()


def from_official(
    state: Mapping[str, torch.Tensor], heads: Mapping[str, int]
) -> dict[str, torch.Tensor]:
    """Rename and reorder official weights.

    Args:
        state (Mapping): official keys, with or without ``llma.``.
        heads (Mapping[str, int]): ``q`` and ``k``: heads of the language model's
            queries and keys; empty when the file has no language model.

    Raises:
        ValueError: listing keys that the map does not declare.
    """
    result, unknown = {}, []
    plain = {key.removeprefix(PREFIX): value for key, value in state.items()}
    for key, value in plain.items():
        if UNUSED.match(key):
            continue
        if fused := _FUSED.fullmatch(key):
            base = fused.expand(_OUR_BLOCK) + "self_attn."
            for name, third in zip("qkv", value.chunk(3), strict=True):
                result[f"{base}{name}_proj.{fused[2]}"] = third.clone()
        else:
            name, tensor = _rename(key, value, heads)
            result[name or key] = tensor
            unknown += [] if name else [key]
    if unknown:
        raise ValueError(
            f"OneLLM checkpoint: {len(unknown)} keys that it should not have: "
            f"{unknown[:10]}."
        )
    return result


def _rename(
    key: str, value: torch.Tensor, heads: Mapping[str, int]
) -> tuple[str | None, torch.Tensor]:
    for pattern, target in _PATTERNS:
        found = pattern.fullmatch(key)
        if found is None:
            continue
        if target == "experts":
            rest = found[3].removeprefix("attention.").removeprefix("feed_forward.")
            return f"connector.experts.{found[1] or 0}.{found[2]}.{rest}", value
        if target == "attention":
            if found[2] in heads:
                value = rotate_half_rows(value, heads[found[2]])
            name = f"{_LM}layers.{found[1]}.self_attn.{found[2]}_proj.weight"
            return name, value
        return found.expand(target), value
    return None, value


def import_onellm(
    path: str | Path, model_cfg: Mapping[str, Any], *, parts: tuple[str, ...] = ()
) -> Imported:
    """Read an official OneLLM checkpoint.

    Args:
        path (str | Path): a file, or a folder of shards.
        model_cfg (Mapping): our ``model`` config that the weights must fit.
        parts (tuple[str, ...]): which parts must be complete; empty means every
            part that the file touches.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: listing undeclared, missing and unexpected keys, or shapes
            that differ.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such OneLLM checkpoint.")
    raw = read_file(path) if path.is_file() else read_state(path)
    config = model_cfg["language_model"]["config"]
    heads = dict(q=config["num_attention_heads"])
    heads["k"] = config.get("num_key_value_heads", heads["q"])
    state = from_official(raw, heads)
    target = meta_state(model_cfg)
    touched = {key.partition(".")[0] for key in state}
    parts = parts or tuple(sorted(touched))
    fit_strictly(state, target, parts, str(path))
    omitted = tuple(sorted(set(target) - set(state)))
    return Imported(state, dict(model_cfg), parts, str(path), omitted)
