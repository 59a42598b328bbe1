"""Read weights of any common container, without running code from the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a weight file or a transformers folder into one dict on the CPU.

    Args:
        path (str | Path): a ``.safetensors``, ``.bin`` or ``.pth`` file, or a
            folder with one of them or with shards and their index.

    Raises:
        FileNotFoundError: naming the path, when there is nothing to read.
        ValueError: when a file is cut, holds more than tensors, or the shards
            do not hold what the index names.
    """
    path = Path(path)
    if path.is_file():
        return read_file(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such weight file or folder.")
    for name in _INDEXES:
        if (path / name).is_file():
            return _read_shards(path / name)
    for name in _SINGLES:
        if (path / name).is_file():
            return read_file(path / name)
    raise FileNotFoundError(
        f"{path}: no weights; expected one of {[*_SINGLES, *_INDEXES]}, "
        f"found {sorted(p.name for p in path.iterdir())[:20]}."
    )


def read_names(folder: Path) -> list[str]:
    """Return the names of the weights in a folder, empty without any."""
    for name in _INDEXES:
        if (folder / name).is_file():
            return list(read_json(folder / name)["weight_map"])
    for name in (*_SINGLES, "non_lora_trainables.bin", "mm_projector.bin"):
        file = folder / name
        if file.is_file() and file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, framework="pt") as opened:
                return list(opened.keys())
        if file.is_file():
            return list(torch.load(file, map_location="meta", weights_only=True))
    return []


def read_file(path: str | Path) -> dict[str, torch.Tensor]:
    """Read one weight file; of a checkpoint its ``state_dict`` or ``model``."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weight file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: cannot be read as weights ({type(error).__name__}: {error}). "
            "The file is cut, or holds Python objects besides tensors."
        ) from error
    for inner in ("state_dict", "model"):  # mmengine; LAVIS and MiniGPT-4
        if isinstance(state, dict) and isinstance(state.get(inner), dict):
            state = state[inner]
    wrong = (
        [k for k, v in state.items() if not isinstance(v, torch.Tensor)]
        if isinstance(state, dict)
        else [type(state).__name__]
    )
    if wrong:
        raise ValueError(
            f"{path}: expected a dict of tensors, but it holds {wrong[:5]}."
        )
    return state


def _read_shards(index: Path) -> dict[str, torch.Tensor]:
    """Read the shards that an index names and hold it to its word."""
    weight_map = read_json(index)["weight_map"]
    state: dict[str, torch.Tensor] = {}
    for shard in sorted(set(weight_map.values())):
        state.update(read_file(index.parent / shard))
    if state.keys() != weight_map.keys():
        lost = sorted(set(weight_map) - set(state))[:5]
        extra = sorted(set(state) - set(weight_map))[:5]
        raise ValueError(
            f"{index}: the shards do not hold what the index names; not in the "
            f"shards: {lost}; not in the index: {extra}."
        )
    return state


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: naming the file, when it is not one JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(value).__name__}.")
    return value
