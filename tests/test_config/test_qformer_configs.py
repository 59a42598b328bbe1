"""BLIP-2, InstructBLIP and MiniGPT-4: published sizes, trained sets, recipes."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name

ROOT = Path(__file__).resolve().parents[2]
#: EVA-ViT-g/14 with 39 blocks, from its sizes: patches, class, positions, blocks and
#: the norm that stands behind them.
D, F = 1408, 6144
EVA = 3 * 14 * 14 * D + D + D + 257 * D + 39 * (4 * D * D + 2 * D * F + 9 * D + F)
EVA += 2 * D
QFORMER_AND_PROJECTION = 108_314_880
#: word -> connector, trained in it, trained in the language model, tokens.
EXPECTED = {
    "blip2": (QFORMER_AND_PROJECTION, QFORMER_AND_PROJECTION, 0, 32),
    "instructblip": (184_113_408, 184_113_408, 0, 32),
    "minigpt4": (QFORMER_AND_PROJECTION, 768 * 4096 + 4096, 0, 32),
    "minigpt-v2": (5632 * 4096 + 4096 + 2 * D, 5632 * 4096 + 4096, 33_554_432, 256),
}
#: word of a name -> rate, first factor, last factor, warm-up steps, global batch.
RECIPES = {
    "laion-cc-sbu": (1e-4, 1e-6 / 1e-4, 8e-5 / 1e-4, 5000, 256),
    "cc-sbu-align": (3e-5, 1e-6 / 3e-5, 1e-5 / 3e-5, 200, 12),
    "multi-task": (1e-5, 1e-6 / 1e-5, 1e-6 / 1e-5, 1000, 48),
    "instructblip-26": (1e-5, 1e-8 / 1e-5, 0.0, 1000, 128),
    "blip2-129m": (1e-4, 1e-6 / 1e-4, 5e-5 / 1e-4, 2000, 1520),
}
FILES = [
    path
    for folder in ("blip2", "instructblip", "minigpt4")
    for path in sorted((ROOT / "configs" / folder).glob("*.py"))
]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_configs_are_found():
    assert len(FILES) == len(RECIPES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_sizes_and_trained_weights(path):
    word = next(w for w in EXPECTED if path.stem.startswith(f"{w}-eva"))
    connector, trained, adapters, tokens = EXPECTED[word]

    result = dry_run(load_config(path, check=False))

    parts = {row.part: row for row in result.parts}
    assert parts["vision_encoder"].parameters == EVA
    assert parts["connector"].parameters == connector
    assert parts["language_model"].parameters == 6_738_415_616 + adapters
    assert {name: row.trainable for name, row in parts.items()} == dict(
        vision_encoder=0, connector=trained, language_model=adapters
    )
    assert result.image_tokens == tokens


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recipe(path):
    cfg, name = load_config(path, check=False), parse_name(path)
    rate, first, last, warmup, batch = RECIPES[name.data]
    schedule, optimizer = cfg.param_scheduler[0], cfg.optim_wrapper.optimizer

    assert (optimizer.lr, optimizer.weight_decay) == (rate, 0.05)
    assert schedule.start_ratio == pytest.approx(first)
    assert schedule.min_ratio == pytest.approx(last)
    assert schedule.warmup_ratio * cfg.train_cfg.max_iters == pytest.approx(warmup)
    assert cfg.base_batch_size == batch
    side = 448 if "448" in path.stem else 224
    assert cfg.train_dataloader.dataset.pipeline[1] == dict(
        type="ResizeSquare", size=side
    )
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    aware = cfg.model.connector.get("instruction_aware", False)
    assert ("TokenizeInstructions" in steps) == aware


def test_stage_2_of_minigpt4_goes_on_where_stage_1_ended():
    stage_1, stage_2 = sorted(
        (p for p in FILES if p.stem.startswith("minigpt4")),
        key=lambda path: parse_name(path).stage == "ft",
    )
    cfg = load_config(stage_2, check=False)

    assert Path(cfg.load_from[1].path).name == stage_1.stem
    assert cfg.model == load_config(stage_1, check=False).model
    assert cfg.chat_template == "minigpt4"
