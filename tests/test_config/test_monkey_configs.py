"""Monkey: sizes, trained set, views and rates."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run

ROOT = Path(__file__).resolve().parents[2]
(PATH,) = (ROOT / "configs" / "monkey").glob("*.py")
#: Four sets in 48 blocks: packed qkv and output at rank 16, MLP at rank 32.
ADAPTERS = 48 * 4 * (16 * 6 * 1664 + 32 * 2 * 1664 + 3)
END = 2 * 4096 + 4096**2


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_sizes_and_trained_set():
    result = dry_run(load_config(PATH, check=False))

    rows = {row.part: (row.parameters, row.trainable) for row in result.parts}

    assert rows == dict(
        vision_encoder=(1_842_770_688 + ADAPTERS, ADAPTERS),
        connector=(91_791_360, 91_791_360 - END),
        language_model=(7_721_324_544, 7_721_324_544),
    )
    assert result.image_tokens == 1280


def test_recipe():
    cfg = load_config(PATH, check=False)
    windows, encode = cfg.train_dataloader.dataset.pipeline[1:3]

    assert (windows.type, windows.grid, windows.size) == ("GridWindows", 2, 448)
    assert encode.max_length == 2048
    assert cfg.optim_wrapper.optimizer.lr == 1e-5
    assert cfg.param_scheduler[0].warmup_ratio == 0.02
    assert cfg.train_cfg.max_epochs == 1
