"""What ``benchmark.py`` measures, a module per sub-command."""

from __future__ import annotations

import os
from pathlib import Path


def child_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a child process that imports this package."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return {**os.environ, "PYTHONPATH": path, **variables}
