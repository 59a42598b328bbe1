"""LLaVA-UHD: sizes, trained sets, tokens and recipe."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "llava_uhd").glob("*.py"))
WIDTH, LANGUAGE = 5120, 13_015_864_320
#: Queries, key projection, attention, three norms, matrix, two separators.
CONNECTOR = (64 + 1024 + 4 * WIDTH + 4 + 6 + WIDTH + 2) * WIDTH


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_both_stages_are_there():
    assert [parse_name(path).stage for path in FILES] == ["ft", "pt"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_sizes_tokens_and_recipe(path):
    cfg, name = load_config(path, check=False), parse_name(path)
    full = name.stage == "ft"

    result = dry_run(cfg)

    rows = {row.part: (row.parameters, row.trainable) for row in result.parts}
    assert rows == dict(
        vision_encoder=(303_507_456, 0),
        connector=(CONNECTOR, CONNECTOR),
        language_model=(LANGUAGE, LANGUAGE if full else 0),
    )
    assert result.image_tokens == 5 * 64 + 4
    # 20 x 27 patches for the whole, and four slices of as many.
    assert "2700 tokens (5 views) -> 324 tokens" in result.token_budget
    slices = cfg.train_dataloader.dataset.pipeline[1]
    assert (slices.max_slices, slices.keep_aspect) == (6, True)
    assert cfg.model.vision_encoder.type == "AnyAspectVisionEncoder"
    assert cfg.model.connector.whole_last
    assert cfg.optim_wrapper.optimizer.lr == (2e-5 if full else 1e-3)
    assert cfg.base_batch_size == (128 if full else 256)


def test_own_grids_need_an_encoder_that_takes_them():
    cfg = load_config(FILES[0], check=False)
    cfg.model.vision_encoder = cfg.model.vision_encoder.vision_encoder

    with pytest.raises(ValueError, match="HFVisionEncoder takes views of one grid"):
        dry_run(cfg)
