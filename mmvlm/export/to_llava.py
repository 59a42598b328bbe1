"""Our weights under the names of official code: LLaVA and its descendants."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from mmvlm.export.hf_files import effective
from mmvlm.export.keys import (
    OURS,
    connector_depth,
    official_layouts,
    to_canonical,
)
from mmvlm.utils.files import check_empty, whole_folder, writing_into

PROJECTOR = "mm_projector.bin"


def to_official(
    state: Mapping[str, torch.Tensor], source: str = "checkpoint"
) -> dict[str, torch.Tensor]:
    """Rename our weights to official keys.

    MMFuser's fuser goes to ``model.mm_projector.0.`` and the projector's layers to
    ``1.``, ``3.``; INF-LLaVA's to ``model.spatial_embed.``, Mini-Gemini's to
    ``model.vlm_uni_*``; without one the layers are ``0.``, ``2.``, as LLaVA has them.

    Args:
        state (Mapping): our state dict, of the whole model or of parts.
        source (str): for messages.

    Raises:
        ValueError: listing weights that the official code has no place for, such
            as adapters (merge them first) or another fuser.
    """
    canonical = to_canonical(state, OURS, source)
    fuser = {n for n in canonical if n.startswith("connector.fuser.")}
    layouts = official_layouts()
    # A layout's own weights tell it; without any, the closest names do.
    whole = [one for one in layouts if one.needed and {*one.needed} <= {*canonical}]
    layout = max(whole or layouts, key=lambda one: sum(map(one.fit, canonical)))
    lost = [n for n in layout.needed if n not in canonical]
    if lost:
        raise ValueError(
            f"{source}: its fuser is not an official one (layout '{layout.name}'): no "
            f"{lost}; it has {sorted(fuser)[:5]}."
        )
    keys = {name: layout.key(name) for name in canonical}
    if not fuser and connector_depth(canonical) == 1:  # a bare linear layer
        for leaf in ("weight", "bias"):
            keys[f"connector.0.{leaf}"] = f"model.mm_projector.{leaf}"
    strays = [name for name in keys if keys[name] is None or ".lora_" in name]
    if strays:
        raise ValueError(
            f"{source}: the layout '{layout.name}' has no place for {strays[:10]}; "
            "merge adapters with merge_lora.py first."
        )
    return {keys[name]: tensor for name, tensor in canonical.items()}


def export_llava(
    state: Mapping[str, torch.Tensor],
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    source: str = "checkpoint",
) -> Path:
    """Write all weights of a state dict under official names, into one file.

    Args:
        state (Mapping): our state dict.
        path (str | Path): weight file to write.
        dtype (torch.dtype | None): of the written weights; None keeps it.
        source (str): for messages.

    Returns:
        Path: the file.

    Raises:
        ValueError: as :func:`to_official`.
    """
    from mmvlm.engine.runner.checkpoint import save_atomic

    official = {
        key: (value if dtype is None else value.to(dtype)).contiguous()
        for key, value in to_official(state, source).items()
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_atomic(official, str(path))
    print_log(f"{path}: {len(official)} tensors under official names.", "current")
    return path


def export_folder(
    state: Mapping[str, torch.Tensor],
    folder: str | Path,
    config: Mapping[str, Any],
    tokenizer: Any,
    *,
    generation: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    source: str = "checkpoint",
) -> Path:
    """Write the folder that the official loaders open.

    Holds ``config.json``, safetensors shards with their index, tokenizer and
    ``generation_config.json``; it appears whole or not at all.

    Args:
        state (Mapping): our state dict of the whole model.
        folder (str | Path): to be written.
        config (Mapping): see :func:`mmvlm.export.llava_config.official_config`.
        tokenizer (Any): of the model.
        generation (Mapping | None): our generation defaults.
        dtype (torch.dtype | None): of the written weights; None keeps it.
        overwrite (bool): replace an existing folder.
        source (str): for messages.

    Raises:
        FileExistsError: when ``folder`` holds something.
        ValueError: as :func:`to_official`.
    """
    from huggingface_hub import save_torch_state_dict
    from transformers import GenerationConfig

    check_empty(Path(folder), overwrite)
    official = {
        key: (value if dtype is None else value.to(dtype)).contiguous().clone()
        for key, value in to_official(state, source).items()
    }
    folder, kind = Path(folder), next(iter(official.values())).dtype
    fields = dict(config, torch_dtype=str(kind).removeprefix("torch."))
    defaults = GenerationConfig(
        **effective(dict(generation or {})),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with whole_folder(folder, replace=overwrite) as temporary:
        text = json.dumps(fields, indent=2, sort_keys=True, default=str) + "\n"
        (temporary / "config.json").write_text(text, encoding="utf-8")
        tokenizer.save_pretrained(str(temporary))
        defaults.save_pretrained(str(temporary))
        with writing_into(temporary / "model.safetensors"):
            save_torch_state_dict(official, str(temporary), max_shard_size="5GB")
        for file in temporary.glob("*.safetensors"):
            shutil.copymode(temporary / "config.json", file)
    print_log(f"{folder}: {len(official)} tensors, config and tokenizer.", "current")
    return folder


def export_stage_1(
    state: Mapping[str, torch.Tensor],
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    source: str = "checkpoint",
) -> Path:
    """Write the connector as the official stage-1 file ``mm_projector.bin``.

    Args:
        state (Mapping): our state dict; parts besides the connector are left out.
        folder (str | Path): where the file goes.
        dtype (torch.dtype | None): of the written weights; None keeps it.
        source (str): for messages.

    Returns:
        Path: the file.

    Raises:
        ValueError: when there is no connector, or one that is not official.
    """
    own = {key: value for key, value in state.items() if key.startswith("connector.")}
    if not own:
        raise ValueError(f"{source}: holds no connector.")
    return export_llava(own, Path(folder) / PROJECTOR, dtype=dtype, source=source)
