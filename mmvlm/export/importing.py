"""What every importer needs: the target's keys, and the result it hands back."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from mmvlm.export.keys import (
    DERIVED,
    OURS,
    PARTS,
    connector_depth,
    cut_rows,
    from_canonical,
)

EMBED = "language_model.model.embed_tokens.weight"
HEAD = "language_model.lm_head.weight"


@dataclass
class Imported:
    """Weights under our names and the model they belong to.

    Args:
        state_dict (dict[str, torch.Tensor]): our keys.
        model_cfg (dict): the ``model`` entry of a config that they fit.
        parts (tuple[str, ...]): parts that the weights cover.
        source (str): where they come from.
        omitted (tuple[str, ...]): keys of the model that the file leaves to other
            sources.
        meta (dict): plain facts worth keeping in the checkpoint.
    """

    state_dict: dict[str, torch.Tensor]
    model_cfg: dict
    parts: tuple[str, ...]
    source: str
    omitted: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint that ``load_from`` and every tool takes."""
        from mmvlm.engine.runner.checkpoint import save_atomic

        meta = dict(self.meta, source=self.source, parts=list(self.parts))
        if self.omitted:
            meta["omitted"] = list(self.omitted)
        save_atomic(dict(state_dict=self.state_dict, meta=meta), str(path))
        numel = sum(tensor.numel() for tensor in self.state_dict.values())
        print_log(
            f"{path}: {len(self.state_dict)} tensors, {numel:,} values, parts "
            f"{list(self.parts)}.",
            logger="current",
        )


def plain_model_cfg(model_cfg: Mapping[str, Any]) -> dict:
    """Copy a ``model`` config without adapters and quantisation."""
    result = copy.deepcopy(dict(model_cfg))
    for name, part in result.items():
        if isinstance(part, Mapping):
            dropped = ("lora", "quantization") if name in PARTS else ()
            result[name] = {k: v for k, v in part.items() if k not in dropped}
    return result


def meta_model(model_cfg: Mapping[str, Any]) -> torch.nn.Module:
    """Build a model without making its weights."""
    from mmvlm.registry import MODELS

    with torch.device("meta"):
        return MODELS.build(copy.deepcopy(dict(model_cfg)))


def meta_state(model_cfg: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return keys and shapes of a model without making its weights."""
    return meta_model(model_cfg).state_dict()


def rename_keys(
    state: Mapping[str, torch.Tensor],
    names: Sequence[tuple[str, str]],
    source: str,
    cure: str = "",
) -> dict[str, torch.Tensor]:
    """Give official weights the names of a table; derived values are left out.

    Args:
        state (Mapping): official names.
        names (Sequence[tuple[str, str]]): pattern of an official name and ours; the
            whole name must match one, the first that does counts.
        source (str): for messages.
        cure (str): what may help, likewise.

    Raises:
        ValueError: listing names that no pattern fits.
    """
    patterns = [(re.compile(pattern), ours) for pattern, ours in names]
    result, unknown = {}, []
    for key, value in state.items():
        if key.endswith(DERIVED):
            continue
        found = ((pattern.fullmatch(key), ours) for pattern, ours in patterns)
        name = next((match.expand(ours) for match, ours in found if match), None)
        if name is None:
            unknown.append(key)
        else:
            result[name] = value
    if unknown:
        raise ValueError(
            f"{source}: {len(unknown)} keys that it should not have: {unknown[:10]}."
            f"{cure and ' '}{cure}"
        )
    return result


def fit_to_model(
    state: dict[str, torch.Tensor],
    model_cfg: Mapping[str, Any],
    source: str,
    vocab_size: int | None = None,
    optional: Iterable[str] = (),
) -> Imported:
    """Give canonical weights our keys; every part that they touch is complete.

    Args:
        state (dict): canonical weights.
        model_cfg (Mapping): our ``model`` config.
        source (str): for messages.
        vocab_size (int | None): cut embedding and head to that many rows.
        optional (Iterable[str]): canonical names that ``state`` may lack.

    Raises:
        ValueError: missing or unexpected weights, other shapes, or another depth
            of the connector.
    """
    parts = tuple(p for p in PARTS if any(k.startswith(f"{p}.") for k in state))
    depth = connector_depth(state)
    configured = projector_of(model_cfg["connector"]).get("depth")
    if depth and configured is not None and configured != depth:
        raise ValueError(
            f"{source}: its connector has {depth} linear layers, but "
            f"model.connector.depth={configured}."
        )
    target = meta_state(model_cfg)
    if vocab_size is not None:
        state = cut_rows(state, vocab_size, source)
    if EMBED in state and HEAD not in state and _is_tied(model_cfg):
        state = {**state, HEAD: state[EMBED]}
    fitted = from_canonical(
        state, target, OURS, parts=parts, optional=optional, source=source
    )
    omitted = tuple(sorted(set(target) - set(fitted)))
    return Imported(fitted, dict(model_cfg), parts, source, omitted)


def projector_of(connector: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of the innermost connector: behind tiles and fusers."""
    for key in ("connector", "projector"):
        if isinstance(connector.get(key), Mapping):
            return projector_of(connector[key])
    return connector


def _is_tied(model_cfg: Mapping[str, Any]) -> bool:
    config = model_cfg["language_model"].get("config") or {}
    return bool(config.get("tie_word_embeddings"))


def fit_strictly(
    state: Mapping[str, torch.Tensor],
    target: Mapping[str, torch.Tensor],
    parts: tuple[str, ...],
    source: str,
) -> None:
    """Check that the weights of some parts are exactly those of a model.

    Raises:
        ValueError: listing missing and unexpected keys and shapes that differ.
    """
    expected = {key for key in target if key.partition(".")[0] in parts}
    expected = {key for key in expected if not key.endswith("position_ids")}
    missing, unexpected = sorted(expected - set(state)), sorted(set(state) - expected)
    shapes = [
        f"{key} {tuple(state[key].shape)} != {tuple(target[key].shape)}"
        for key in sorted(expected & set(state))
        if state[key].shape != target[key].shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(
            f"{source}: weights do not match the model ({', '.join(parts)}). "
            f"{len(missing)} missing: {missing[:8]}; {len(unexpected)} unexpected: "
            f"{unexpected[:8]}; {len(shapes)} of another shape: {shapes[:8]}."
        )
