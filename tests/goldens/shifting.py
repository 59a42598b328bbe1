"""What recipes of the second set share: other sizes, tests' builders, weights."""

import importlib.util
import re
from pathlib import Path

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
MODELS = TESTS / "test_models"


def builders(path):
    """Load a test file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def redrawn(arrays, sizes, numbers=None, copies=(), left_out="$^"):
    """Draw arrays of other sizes from their own values.

    Args:
        arrays (dict): of the file.
        sizes (dict[str, dict[int, int]]): pattern of keys -> old side -> new side; the
            first pattern that is found in a key counts.
        numbers (dict | None): what single numbers become.
        copies (tuple): pairs of key prefixes; the second is drawn like the first.
        left_out (str): pattern of keys that the new file does not have.

    """
    rng = np.random.default_rng(0)
    kept = {k: v for k, v in arrays.items() if not re.search(left_out, k)}
    for old, new in copies:
        like = [key for key in kept if key.startswith(old)]
        kept.update({new + key.removeprefix(old): kept[key] for key in like})
    drawn = {}
    for key, value in kept.items():
        table = next((t for p, t in sizes.items() if re.search(p, key)), {})
        shape = [table.get(side, side) for side in value.shape]
        drawn[key] = value if value.ndim == 0 else rng.choice(value.ravel(), shape)
    drawn.update({key: np.array(value) for key, value in (numbers or {}).items()})
    return drawn


def tensors(arrays):
    """Return tensors that share memory with the arrays."""
    return {k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype.kind != "U"}


def shaken(module):
    """Draw every weight of a fresh module anew, zeros too."""
    with torch.no_grad():
        for value in module.state_dict().values():
            value.add_(torch.randn_like(value) * 0.2)
    return module


def state(module, prefix):
    """Return a copy of a module's weights under names with this prefix."""
    return {prefix + k: v.clone() for k, v in module.state_dict().items()}


def gradients(out, weight, **given):
    """Return gradients of the weighted sum, by name."""
    found = torch.autograd.grad((out * weight).sum(), list(given.values()))
    return {f"grad/{key}": value for key, value in zip(given, found, strict=True)}
