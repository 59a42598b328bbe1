"""Our weights under the names of the official LLaVA code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from mmvlm.export.from_llava import PROJECTOR
from mmvlm.export.keys import LLAVA, OURS, connector_depth, to_canonical


def to_llava(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename weights of ours, any parts, to the official keys.

    Args:
        state (Mapping): our keys.

    Raises:
        ValueError: listing weights that have no official name, adapters among them.

    """
    if adapters := [key for key in state if ".lora_" in key]:
        raise ValueError(
            f"{len(adapters)} adapter weights, such as '{adapters[0]}': merge them "
            "with tools/model_converters/merge_lora.py first."
        )
    canonical = to_canonical(state, OURS, "model")
    single = connector_depth(canonical) == 1
    names = {name: _official(name, single) for name in canonical}
    if unknown := [name for name, key in names.items() if key is None]:
        raise ValueError(
            f"{len(unknown)} weights have no name in the official code: {unknown[:10]}."
        )
    return {names[name]: tensor for name, tensor in canonical.items()}


def save_llava(state: Mapping[str, torch.Tensor], path: str | Path) -> Path:
    """Write all weights of a state dict under the official names, into one file.

    Args:
        state (Mapping): our keys.
        path (str | Path): weight file to write.

    Raises:
        ValueError: as :func:`to_llava`.

    """
    path, official = Path(path), to_llava(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(official, path)
    return path


def save_stage_1(state: Mapping[str, torch.Tensor], folder: str | Path) -> Path:
    """Write the connector as the official code's stage 1 leaves it.

    Args:
        state (Mapping): a model's state dict; other parts are not written.
        folder (str | Path): gets ``mm_projector.bin``.

    Raises:
        ValueError: when there is no connector, or it has no official name.

    """
    connector = {k: v for k, v in state.items() if k.startswith("connector.")}
    if not connector:
        raise ValueError("the state holds no 'connector.' weights.")
    path = Path(folder) / PROJECTOR
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(to_llava(connector), path)
    return path


def _official(name: str, single: bool) -> str | None:
    """Return the official key of a canonical name: the first prefix that fits."""
    for prefix, ours in LLAVA.prefixes.items():
        # A lone linear layer has no number there.
        numbered = prefix.startswith("model.mm_projector.") and prefix.endswith(".")
        if name.startswith(ours) and not (single and numbered):
            return prefix + name[len(ours) :]
    return None
