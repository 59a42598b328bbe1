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


class FailuresAtOnce:
    """Names a failed test when it fails: a suite that is stopped has no summary."""

    def __init__(self, terminal):
        self.terminal = terminal

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.terminal.write_line(f"\nFAILED {report.nodeid} ({report.when})")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:  # the processes of pytest-xdist have none
        config.pluginmanager.register(FailuresAtOnce(terminal))
