"""LISA's official keys under our names.

An official file is a LLaVA with ``model.visual_model.`` (SAM, official names) and
``model.text_hidden_fcs.0.`` (the projection); the merged one leaves CLIP out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmvlm.export.importing import (
    Imported,
    fit_strictly,
    meta_state,
    plain_model_cfg,
    rename_keys,
)
from mmvlm.export.state import read_file, read_state
from mmvlm.models.utils.sam import to_transformers

_SAM = "model.visual_model."
#: (official pattern, our key); the whole key must match one pattern.
KEYS: tuple[tuple[str, str], ...] = (
    (r"(model\.(?:embed_tokens|layers|norm)\..+)", r"language_model.model.\1"),
    (r"(lm_head\.weight)", r"language_model.model.\1"),
    (r"model\.mm_projector\.(\w+)", r"connector.proj.\1"),
    (r"model\.text_hidden_fcs\.0\.(\d+)\.(\w+)", r"mask.projection.\1.\2"),
    (
        r"model\.vision_tower\.(?:vision_tower\.)?(vision_model\..+)",
        r"vision_encoder.\1",
    ),
)


def from_official(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename official weights of LISA, merged (without LoRA).

    Args:
        state (Mapping): official keys.

    Raises:
        ValueError: listing keys that the map does not declare.
    """
    sam = {k.removeprefix(_SAM): v for k, v in state.items() if k.startswith(_SAM)}
    result = {}
    for key, value in to_transformers(sam).items():
        part = "sam" if key.startswith("vision_encoder.") else "mask.decoder"
        result[f"{part}.{key}"] = value
    rest = {key: value for key, value in state.items() if not key.startswith(_SAM)}
    cure = "Merge its LoRA first, if it has any."
    return result | rename_keys(rest, KEYS, "LISA checkpoint", cure)


def import_lisa(path: str | Path, model_cfg: Mapping[str, Any]) -> Imported:
    """Read an official LISA checkpoint; every part that it touches is complete.

    Args:
        path (str | Path): a file, or a folder of shards, with its LoRA merged.
        model_cfg (Mapping): our ``model`` config that the weights must fit, with an
            encoder ``sam`` and a head ``mask``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: listing undeclared, missing and unexpected keys, or shapes
            that differ.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such LISA checkpoint.")
    state = from_official(read_file(path) if path.is_file() else read_state(path))
    config = plain_model_cfg(model_cfg)
    config.pop("train_parts", None)  # says what learns, of LoRA too
    target = meta_state(config)
    parts = tuple(sorted({key.partition(".")[0] for key in state}))
    fit_strictly(state, target, parts, str(path))
    omitted = tuple(sorted(set(target) - set(state)))
    return Imported(state, config, parts, str(path), omitted)
