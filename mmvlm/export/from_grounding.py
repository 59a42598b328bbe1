"""Official grounding models of LLaVA's family, deltas included, under our names.

Ferret, GPT4RoI, Osprey and Shikra keep a LLaVA of one linear or MLP projector, and
their region module below ``model.``. Most released weights are differences to the
language model that they were trained from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from .delta import add_delta
from .importing import (
    Imported,
    fit_strictly,
    fit_to_model,
    meta_state,
    plain_model_cfg,
)
from .keys import official_layout, to_canonical
from .region_keys import REGION_MODULES
from .state import read_state

#: The end of Osprey's ConvNeXt behind its last stage, which nothing reads.
_UNUSED = re.compile(
    r"model\.vision_tower\.vision_tower\.visual\.(?:trunk\.(?:norm_pre|head)|head)\."
)


def import_grounding(
    path: str | Path, model_cfg: Mapping[str, Any], *, base: str | Path | None = None
) -> Imported:
    """Read an official checkpoint into the names of a model.

    Args:
        path (str | Path): file or folder of the official weights.
        model_cfg (Mapping): our ``model`` config that the weights must fit.
        base (str | Path | None): the language model that a delta was made from; None
            for whole weights.

    Raises:
        ValueError: missing or unexpected weights (listed), other shapes, or a base that
            the delta was not made from.
    """
    source, state = str(path), read_state(path)
    if base is not None:
        source = f"{path} added to {base}"
        state = add_delta(state, read_state(base), source)
    return fit_grounding(state, model_cfg, source)


def fit_grounding(
    state: Mapping[str, torch.Tensor], model_cfg: Mapping[str, Any], source: str
) -> Imported:
    """Give whole official weights the names of a model.

    Args:
        state (Mapping): official names.
        model_cfg (Mapping): our ``model`` config that the weights must fit.
        source (str): for messages.

    Raises:
        ValueError: missing or unexpected weights (listed), or other shapes.
    """
    unused = [key for key in state if _UNUSED.match(key)]
    if unused:
        state = {key: value for key, value in state.items() if key not in unused}
        print_log(
            f"{source}: {len(unused)} unused weights of the vision tower's head left "
            f"out: {', '.join(unused)}.",
            "current",
        )
    model_cfg = plain_model_cfg(model_cfg)
    encoders = {
        name: REGION_MODULES[part["type"]]
        for name, part in (model_cfg.get("connectors") or {}).items()
        if part["type"] in REGION_MODULES
    }
    regions: dict[str, torch.Tensor] = {}
    for name, module in encoders.items():
        own = [key for key in state if key.startswith(module.prefix)]
        plain = {key.removeprefix(module.prefix): state.pop(key) for key in own}
        found = module.to_ours(plain, source)
        regions.update({f"{name}.{key}": tensor for key, tensor in found.items()})
    target = meta_state(model_cfg)
    fit_strictly(regions, target, tuple(encoders), source)
    others = ("connectors", "heads", "train_parts")  # the last names the former
    rest = {key: value for key, value in model_cfg.items() if key not in others}
    canonical = to_canonical(state, official_layout(state), source)
    imported = fit_to_model(canonical, rest, source)
    imported.state_dict.update(regions)
    imported.model_cfg = dict(model_cfg)
    imported.parts = (*imported.parts, *encoders)
    imported.omitted = tuple(sorted(set(target) - set(imported.state_dict)))
    return imported
