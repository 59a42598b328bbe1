"""Golden tests take sizes and cases from their files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PARTS = ("test_text", "test_models/test_connectors/test_resampler.py")


@pytest.mark.slow
@pytest.mark.multiproc
def test_golden_tests_pass_on_files_of_other_sizes(tmp_path):
    make = [sys.executable, str(TESTS / "goldens" / "make_shifted.py"), str(tmp_path)]
    subprocess.run(make, check=True, cwd=TESTS.parent)

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "golden"]
        + [str(TESTS / part) for part in PARTS],
        env=dict(os.environ, MMVLM_GOLDENS=str(tmp_path)),
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout[-3000:]
