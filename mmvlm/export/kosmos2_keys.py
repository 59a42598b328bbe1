"""transformers' Kosmos-2 and ours: the same weights under two sets of names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmvlm.export.importing import Imported, fit_strictly, meta_state
from mmvlm.export.state import read_state

#: Beginning of transformers' names -> beginning of ours.
PREFIXES = {
    "text_model.": "language_model.model.",
    "vision_model.model.": "vision_encoder.vision_model.",
    "image_to_text_projection.": "connector.",
}
#: Of a file's names, what no version of the model trains.
_DERIVED = ("position_ids", "embed_positions.weights")


def from_kosmos2(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of ``Kosmos2ForConditionalGeneration`` under our names.

    A head that the file leaves out is the embedding table, to which it is tied.

    Raises:
        ValueError: naming weights of another model.
    """
    found = _renamed(state, PREFIXES)
    head, table = (
        f"language_model.model.{name}.weight"
        for name in ("lm_head", "model.embed_tokens")
    )
    if head not in found and table in found:
        found[head] = found[table]
    return found


def to_kosmos2(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo :func:`from_kosmos2`.

    Raises:
        ValueError: naming weights of another model.
    """
    return _renamed(state, {ours: theirs for theirs, ours in PREFIXES.items()})


def import_kosmos2(path: str | Path, model_cfg: Mapping[str, Any]) -> Imported:
    """Read weights of transformers' Kosmos-2.

    Args:
        path (str | Path): folder or weight file.
        model_cfg (Mapping): our ``model`` config that the weights must fit.

    Raises:
        ValueError: listing missing and unexpected keys, or shapes that differ.
    """
    state, target = from_kosmos2(read_state(path)), meta_state(model_cfg)
    parts = ("vision_encoder", "connector", "language_model")
    fit_strictly(state, target, parts, str(path))
    return Imported(state, dict(model_cfg), parts, str(path))


def _renamed(
    state: Mapping[str, torch.Tensor], prefixes: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    found, strange = {}, []
    for name, value in state.items():
        if name.endswith(_DERIVED):
            continue
        old = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if old is None:
            strange.append(name)
        else:
            found[prefixes[old] + name.removeprefix(old)] = value
    if strange:
        raise ValueError(
            f"{len(strange)} weights are none of Kosmos-2, for example {strange[:3]}."
        )
    return found
