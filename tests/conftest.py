"""Fixtures of the whole suite. mmvlm comes first: it applies the shims."""

import os
import sys
from pathlib import Path

import mmvlm  # noqa: F401  isort: skip

import pytest

# What serves one tool alone stands beside it, outside of the package.
TOOLS = Path(__file__).parents[1] / "tools"
sys.path[:0] = [
    str(TOOLS / name)
    for name in ("", "analysis", "misc", "dataset_converters", "model_converters")
]


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of golden files; a missing file must fail its test."""
    default = Path(__file__).parent / "goldens"
    return Path(os.environ.get("MMVLM_GOLDENS", default))
