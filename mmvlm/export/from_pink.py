"""What PINK's official code saves, under our names.

``saved_parameters.pth`` holds what its second stage trains: bottlenecks, projector, and
both tables whole. The rest is Llama-2 and CLIP as they were released.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from mmvlm.models.language_models.new_tokens import NewTokens

from .importing import Imported, fit_strictly, meta_state, plain_model_cfg, rename_keys
from .state import read_state

_FILE = "saved_parameters.pth"
_LM = "language_model.model."
_BOTTLENECK = r"adapter_attn\.(tune_adapter_[ab]\..+)"
#: Official pattern and ours; the whole name must match one.
KEYS: tuple[tuple[str, str], ...] = (
    (
        rf"model\.layers\.(\d+)\.{_BOTTLENECK}",
        r"language_model.adapters.bottleneck.layers.\1.\2",
    ),
    (
        rf"vision_model\.vision_model\.encoder\.layers\.(\d+)\.{_BOTTLENECK}",
        r"vision_encoder.adapters.\1.\2",
    ),
    (r"mm_projector\.(\w+)", r"connector.proj.\1"),
    (r"(model\.layers\.\d+\.(?!adapter_).+)", rf"{_LM}\1"),
    (r"((?:model\.(?:embed_tokens|norm)|lm_head)\.weight)", rf"{_LM}\1"),
)
_TABLES = (f"{_LM}model.embed_tokens.weight", f"{_LM}lm_head.weight")


def import_pink(
    path: str | Path, model_cfg: Mapping[str, Any], *, base: str | Path | None = None
) -> Imported:
    """Read what the second stage of the official code saved.

    Args:
        path (str | Path): ``saved_parameters.pth`` or its folder.
        model_cfg (Mapping): our ``model`` config that the weights must fit.
        base (str | Path | None): Llama-2-7b-chat as transformers saves it; None leaves
            it, as CLIP always, to ``name_or_path`` of the config.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: missing or unexpected weights (listed), or other shapes.
    """
    path = Path(path) / _FILE if Path(path).is_dir() else Path(path)
    weights = {} if base is None else read_state(base)
    return fit_pink({**weights, **read_state(path)}, model_cfg, str(path))


def fit_pink(
    state: Mapping[str, torch.Tensor], model_cfg: Mapping[str, Any], source: str
) -> Imported:
    """Give official weights the names of a model.

    Args:
        state (Mapping): official names, with or without those of Llama.
        model_cfg (Mapping): our ``model`` config that the weights must fit.
        source (str): for messages.

    Raises:
        ValueError: missing or unexpected weights (listed), or other shapes.
    """
    config = plain_model_cfg(model_cfg)
    found, target = rename_keys(state, KEYS, source), meta_state(config)
    tags = NewTokens.of(config)
    _drop_patch_row(found, target, len(tags.tokens) if tags else 0, source)
    has_llama = any(key.startswith(f"{_LM}model.layers.") for key in found)
    omitted = {
        key
        for key in target
        if (key.startswith(_LM) and not has_llama and key not in _TABLES)
        or (key.startswith("vision_encoder.") and ".adapters." not in key)
    }
    expected = {key: value for key, value in target.items() if key not in omitted}
    parts = ("vision_encoder", "connector", "language_model")
    fit_strictly(found, expected, parts, source)
    return Imported(found, config, parts, source, tuple(sorted(omitted)))


def _drop_patch_row(
    state: dict[str, torch.Tensor],
    target: Mapping[str, torch.Tensor],
    num_tags: int,
    source: str,
) -> None:
    """Take the row of ``<im_patch>``, in front of the tags', out of both tables.

    Its places are the image's, which stand in no vocabulary here.
    """
    for name in _TABLES:
        rows, table = len(target[name]), state.get(name)
        if table is None or len(table) != rows + 1:
            continue
        first = rows - num_tags
        state[name] = torch.cat([table[:first], table[first + 1 :]])
        print_log(f"{source}: row {first} of {name} (<im_patch>) left out.", "current")
