"""Merge low-rank adapters of every part into their base weights."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.logging import print_log

from mmvlm.models.utils.freezing import is_lora_parameter


def merge_lora(model: torch.nn.Module) -> dict[str, int]:
    """Merge all adapters of a model in place; all else stays as it is.

    Args:
        model (VisionLanguageModel): loaded; parts without adapters are not
            touched.

    Returns:
        dict[str, int]: merged layers per part.

    Raises:
        ValueError: when there is nothing to merge, a merge gives a non-finite
            weight, or adapters remain.
    """
    merged: dict[str, int] = {}
    for name, part in model.parts.items():
        count = _merge_part(part, name)
        if count:
            merged[name] = count
            if hasattr(part, "lora"):
                part.lora = None
    if not merged:
        raise ValueError(
            f"no part of {list(model.parts)} has LoRA adapters: nothing to merge. Was "
            "the config given with the lora that the checkpoint was trained with?"
        )
    left = [name for name, _ in model.named_parameters() if is_lora_parameter(name)]
    if left:
        raise ValueError(f"{len(left)} adapter weights remain: {left[:5]}.")
    print_log(f"merged LoRA layers: {merged}.", logger="current")
    return merged


def has_lora(model: torch.nn.Module) -> bool:
    """Whether any part has adapters."""
    return any(is_lora_parameter(name) for name, _ in model.named_parameters())


def _merge_part(part: Any, name: str) -> int:
    """Replace each adapted layer of a part by its merged base layer."""
    if not has_lora(part):
        return 0
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [(n, m) for n, m in part.named_modules() if isinstance(m, BaseTunerLayer)]
    for path, layer in layers:
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:
            raise ValueError(f"{name}.{path}: {error}") from error
        parent, _, leaf = path.rpartition(".")
        setattr(part.get_submodule(parent), leaf, layer.get_base_layer())
    return len(layers)
