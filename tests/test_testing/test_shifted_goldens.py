"""Golden tests take sizes, cases and keys from their files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[1]
OWN = TESTS / "goldens"


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shifted")
    make = [sys.executable, str(OWN / "make_shifted.py"), str(folder)]
    subprocess.run(make, check=True, cwd=TESTS.parent)
    return folder


@pytest.mark.slow
@pytest.mark.multiproc
def test_golden_tests_pass_on_files_of_other_sizes(shifted):
    named = [path for path in TESTS.rglob("test_*.py") if "golden" in path.read_text()]

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "golden", *named],
        env=dict(os.environ, MMVLM_GOLDENS=str(shifted)),
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.multiproc
def test_every_file_of_the_second_set_is_another(shifted):
    for path in OWN.glob("*.json"):
        other = json.loads((shifted / path.name).read_text())
        assert json.loads(path.read_text()) != other, path.name
    for path in OWN.glob("*.npz"):
        with np.load(path) as own, np.load(shifted / path.name) as other:
            both = [key for key in own if key in other and own[key].ndim]
            same = [key for key in both if own[key].shape == other[key].shape]
            # Ids of words keep their lengths in a narrower merge.
            assert len(same) < len(own.files) / 2, (path.name, same)
