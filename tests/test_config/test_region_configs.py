"""Ferret, GPT4RoI and Osprey: sizes and trained sets."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name

ROOT = Path(__file__).resolve().parents[2]
SAMPLER, ROI_MODULE = 44_069_900, 299_142_912
LINEAR = 1024 * 4096 + 4096


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def tables(folder):
    paths = (ROOT / "configs" / folder).glob("*.py")
    found = {}
    for path in paths:
        parts = dry_run(load_config(path, check=False)).parts
        rows = {row.part: (row.parameters, row.trainable) for row in parts}
        found[parse_name(path).stage] = rows
    return found


def test_ferret_trains_all_but_the_tower():
    rows = tables("ferret")["ft"]

    assert rows["region_encoder"] == (SAMPLER, SAMPLER)
    assert rows["connector"] == (LINEAR, LINEAR)
    assert rows["vision_encoder"] == (303_507_456, 0)
    total, trained = rows["language_model"]
    assert total == trained == 6_738_415_616 + 2 * 4096


def test_gpt4roi_trains_its_region_module_first():
    found = tables("gpt4roi")

    first = {part: trained for part, (_, trained) in found["pt"].items()}
    assert first.pop("region_encoder") == ROI_MODULE and not any(first.values())
    assert found["ft"]["region_encoder"] == (ROI_MODULE, ROI_MODULE)
    assert found["ft"]["connector"] == (LINEAR, LINEAR)
    total, trained = found["ft"]["language_model"]
    assert total == trained == 6_738_415_616 + 5 * 2 * 4096


def test_osprey_trains_its_mask_extractor_first():
    found = tables("osprey")
    # Four stages, the sum of them, and the mask of 112 x 112 cells.
    levels = (192 + 384 + 768 + 1536) * 1024 + 4 * 1024
    place = 112 * 112 * 1024 + 1024 + 1024 * 1024 + 1024
    extractor = levels + place + 2 * (1024 * 4096 + 4096)

    first = {part: trained for part, (_, trained) in found["pt"].items()}
    assert first.pop("region_encoder") == extractor and not any(first.values())
    projector = 768 * 4096 + 4096 + 4096 * 4096 + 4096
    assert found["ft"]["connector"] == (projector, projector)
    assert found["ft"]["region_encoder"] == (extractor, extractor)
    assert found["ft"]["vision_encoder"] == (196_227_264, 0)
    total, trained = found["ft"]["language_model"]
    assert total == trained == 6_738_415_616 + 2 * 2 * 4096
