"""LLaVA-NeXT: sizes, tokens, recipe."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "llava_next").glob("*.py"))
TOWER, LANGUAGE = 303_507_456, 6_738_415_616
#: Weights of the connector, tokens of a 640 x 480 image in stages 1 and 2.
CONNECTOR = {
    "anyres-mlp2x": (20_979_712 + 4096, 577, 2340),
    "anyres-pixel-shuffle": (33_570_816 + 4096, 145, 594),
    "anyres-layer-concat": (37_756_928 + 4096, 577, 2340),
}


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_every_connector_has_both_stages():
    stages = {(parse_name(f).connector, parse_name(f).stage) for f in FILES}

    assert stages == {(name, stage) for name in CONNECTOR for stage in ("pt", "ft")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_sizes_and_trained_parts(path):
    name, result = parse_name(path), dry_run(load_config(path, check=False))
    connector, single, tiled = CONNECTOR[name.connector]
    full = name.stage == "ft"

    rows = {row.part: (row.parameters, row.trainable) for row in result.parts}

    assert rows == dict(
        vision_encoder=(TOWER, TOWER if full else 0),
        connector=(connector, connector),
        language_model=(LANGUAGE, LANGUAGE if full else 0),
    )
    assert result.image_tokens == (tiled if full else single)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_recipe(path):
    cfg, name = load_config(path, check=False), parse_name(path)
    steps = [step["type"] for step in cfg.train_dataloader.dataset.pipeline]

    assert cfg.model.connector.type == "AnyResConnector"
    assert cfg.model.connector.unpad is True
    if name.stage == "pt":
        assert steps[1] == "CenterCropSquare" and cfg.chat_template == "plain"
        assert (cfg.optim_wrapper.optimizer.lr, cfg.base_batch_size) == (1e-3, 256)
        return
    tiles, encode = cfg.train_dataloader.dataset.pipeline[1:3]
    pinpoints = [(336 * cols, 336 * rows) for rows, cols in tiles.tilings]
    assert pinpoints == [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]
    assert encode.max_length == 4096
    assert cfg.optim_wrapper.optimizer.lr == 2e-5
    assert cfg.optim_wrapper.paramwise_cfg.parts.vision_encoder.lr == 2e-6
    assert cfg.base_batch_size == 128
    stage_1 = path.parent / f"{Path(cfg.load_from.path).name}.py"
    first = load_config(stage_1, check=False)
    assert first.model.connector == cfg.model.connector
    assert cfg.load_from.parts == ["connector"]
