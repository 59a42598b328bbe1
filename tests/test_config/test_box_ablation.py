"""Ways to say a box: the parent, but for what writes and reads boxes."""

from pathlib import Path

import pytest

from mmvlm.config import load_config

ROOT = Path(__file__).resolve().parents[2] / "configs"
PARENT = next((ROOT / "tiny").glob("shikra-*.py"))
FILES = sorted((ROOT / "ablations/tiny_scenes/boxes").glob("*.py"))


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT.parent)


def flat(value, path=""):
    if isinstance(value, dict) and value:
        return {
            k: v for key in value for k, v in flat(value[key], f"{path}.{key}").items()
        }
    return {path.lstrip("."): value}


def test_there_are_five_ways():
    ways = {path.stem.split("-")[1] for path in FILES}

    assert ways == {"numerals", "bins", "cells", "thousandths", "head"}
    assert all(path.read_text().count("\n") <= 40 for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem.split("-")[1])
def test_a_config_changes_the_way_alone(path):
    parent, own = (flat(load_config(p, check=False).to_dict()) for p in (PARENT, path))

    changed = {key for key in {*parent, *own} if parent.get(key) != own.get(key)}

    of_the_way = (
        *("processor.codec", "processor.targets", "model.heads", "model.connectors."),
        *("model.language_model.new_tokens", "test_evaluator.rule", "codec"),
    )
    assert [key for key in changed if not key.startswith(of_the_way)] == []
    assert own["test_evaluator.rule"] == "regions"
