"""No number of what was there may change; see tests/goldens/spine/README.md."""

import json
import sys
from pathlib import Path

import pytest

from mmvlm.config import load_config

HERE = Path(__file__).parent / "goldens" / "spine"
sys.path.insert(0, str(HERE))

import pins  # noqa: E402

GOLDEN = json.loads((HERE / "pins.json").read_text(encoding="utf-8"))
CHILDREN = sorted((HERE / "configs").glob("*.py"))
#: Relative; where the machine is another one than that of the pins.
ELSEWHERE = 1e-6


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spine")
    pins.write_data(folder)
    return folder


def check(found, expected):
    """Compare bit for bit on the machine of the pins, closely on others."""
    if pins.machine() == GOLDEN["machine"]:
        assert found == expected
        return
    assert found["losses"] == pytest.approx(expected["losses"], rel=ELSEWHERE)
    assert found["parts"].keys() == expected["parts"].keys()
    for part, sums in expected["parts"].items():
        scale = sums[0]
        assert found["parts"][part] == pytest.approx(sums, abs=ELSEWHERE * scale), part


def test_every_pinned_config_is_shipped():
    """Those of later systems are held by test_tiny_systems."""
    assert set(GOLDEN["runs"]) <= {path.stem for path in pins.TINY.glob("*.py")}


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN["runs"])
def test_first_steps(name, workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(workspace)

    check(pins.measure(pins.TINY / f"{name}.py", tmp_path), GOLDEN["runs"][name])


@pytest.mark.slow
def test_a_checkpoint_of_before_is_resumed(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(workspace)

    check(pins.train_model(tmp_path, resume=True), GOLDEN["resumed"])


def test_replies_of_a_checkpoint_of_before(workspace, monkeypatch):
    monkeypatch.chdir(workspace)

    assert pins.replies() == GOLDEN["replies"]
    assert len({reply["text"] for reply in GOLDEN["replies"]}) > 3


@pytest.mark.parametrize("path", CHILDREN, ids=[path.stem for path in CHILDREN])
def test_child_configs_of_before_pass_the_doctor(path):
    assert load_config(path).model.type == "VisionLanguageModel"
