"""Fixtures of the whole suite. mmvlm comes first: it applies the shims."""

import os
from pathlib import Path

import mmvlm  # noqa: F401  isort: skip

import pytest


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of golden files; a missing file must fail its test."""
    default = Path(__file__).parent / "goldens"
    return Path(os.environ.get("MMVLM_GOLDENS", default))
