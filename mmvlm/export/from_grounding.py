"""Official grounding models of LLaVA's family, deltas included, under our names.

Ferret, GPT4RoI, Osprey and Shikra keep a LLaVA of one linear or MLP projector, and
their region module below ``model.``. Most released weights are differences to the
language model that they were trained from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .importing import Imported, fit_to_model, meta_state, plain_model_cfg
from .keys import DERIVED, official_layout, to_canonical
from .region_keys import REGION_MODULES
from .state import read_state

_TABLES = ("model.embed_tokens.weight", "lm_head.weight")


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
        state = add_base(state, read_state(base), source)
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
    expected = {k for k in target if k.partition(".")[0] in encoders}
    _check_regions(source, regions, {key: target[key] for key in expected})
    rest = {k: v for k, v in model_cfg.items() if k not in ("connectors", "heads")}
    canonical = to_canonical(state, official_layout(state), source)
    imported = fit_to_model(canonical, rest, source)
    imported.state_dict.update(regions)
    imported.model_cfg = dict(model_cfg)
    imported.parts = (*imported.parts, *encoders)
    imported.omitted = tuple(sorted(set(target) - set(imported.state_dict)))
    return imported


def add_base(
    delta: Mapping[str, torch.Tensor],
    base: Mapping[str, torch.Tensor],
    source: str = "delta",
) -> dict[str, torch.Tensor]:
    """Add a language model to released differences.

    Rows that the tables have beyond the base's (new tokens), and weights that the base
    does not have, are taken as they are.

    Args:
        delta (Mapping): official names.
        base (Mapping): names of transformers' causal language model.
        source (str): for messages.

    Raises:
        ValueError: when the delta lacks a weight of the base, or has another shape.
    """
    base = {key: value for key, value in base.items() if not key.endswith(DERIVED)}
    lost = sorted(set(base) - set(delta))
    if lost:
        raise ValueError(
            f"{source}: the delta lacks {len(lost)} weights of the base: {lost[:8]}; "
            "it was made from another model, or is none (leave the base out)."
        )
    result = dict(delta)
    for key, old in base.items():
        new = delta[key]
        grows = key in _TABLES and len(new) >= len(old) and new.ndim == old.ndim
        if new.shape != old.shape and not (grows and new.shape[1:] == old.shape[1:]):
            raise ValueError(
                f"{source}: '{key}' has the shape {tuple(new.shape)}, in the base "
                f"{tuple(old.shape)}; it was made from another model."
            )
        # One rounding, as the official sum in half precision has.
        rows = (new[: len(old)].float() + old.float()).to(new.dtype)
        result[key] = torch.cat([rows, new[len(old) :]])
    return result


def _check_regions(
    source: str, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """Hold the weights of region encoders against the model's."""
    missing, unexpected = set(expected) - set(found), set(found) - set(expected)
    shapes = [
        f"{key} {tuple(found[key].shape)} != {tuple(expected[key].shape)}"
        for key in sorted(set(expected) & set(found))
        if found[key].shape != expected[key].shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(
            f"{source}: weights do not match the region encoder. {len(missing)} "
            f"missing: {sorted(missing)[:8]}; {len(unexpected)} unexpected: "
            f"{sorted(unexpected)[:8]}; shapes that differ: {shapes[:8]}."
        )
