"""Q-Formers of LAVIS, MiniGPT-4 and transformers into our connector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmvlm.export.importing import Imported, meta_state
from mmvlm.export.qformer_keys import PROJECTIONS, style_of, to_ours
from mmvlm.export.state import read_state

_PROJECTION = "connector.proj."


def import_qformer(
    paths: Sequence[str | Path],
    model_cfg: Mapping[str, Any],
    *,
    projection: bool = True,
) -> Imported:
    """Read a Q-Former, and the projection where it is wanted.

    Several files complete each other, later ones win: MiniGPT-4 is BLIP-2's file
    and one with ``llama_proj`` alone. Towers in the files are passed over.

    Args:
        paths (Sequence[str | Path]): files or folders.
        model_cfg (Mapping): our ``model`` config that the weights must fit.
        projection (bool): False leaves the projection to training (MiniGPT-4's
            first stage: BLIP-2's is for another language model).

    Raises:
        ValueError: missing or unexpected weights (listed), or other shapes.
    """
    connector = model_cfg["connector"]
    source = " + ".join(str(path) for path in paths)
    state: dict[str, torch.Tensor] = {}
    for path in paths:
        weights = read_state(path)
        if not projection:
            weights = _without_projection(weights)
        found, _ = to_ours(
            weights,
            style_of(weights, str(path)),
            instruction_aware=connector.get("instruction_aware", False),
        )
        state.update({f"connector.{key}": tensor for key, tensor in found.items()})
    target = meta_state(model_cfg)
    own_keys = {key for key in target if key.startswith("connector.")}
    expected = {k for k in own_keys if projection or not k.startswith(_PROJECTION)}
    missing, unexpected = expected - set(state), set(state) - expected
    shapes = [
        f"{key} {tuple(state[key].shape)} != {tuple(target[key].shape)}"
        for key in sorted(expected & set(state))
        if state[key].shape != target[key].shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(
            f"{source}: weights do not match model.connector. {len(missing)} missing: "
            f"{sorted(missing)[:8]}; {len(unexpected)} unexpected: "
            f"{sorted(unexpected)[:8]}; shapes that differ: {shapes[:8]}."
        )
    omitted = tuple(sorted(set(target) - set(state)))
    return Imported(state, dict(model_cfg), ("connector",), source, omitted)


def _without_projection(weights: dict) -> dict:
    names = tuple(f"{name}." for name in (*PROJECTIONS, "language_projection"))
    return {k: v for k, v in weights.items() if not k.startswith(names)}
