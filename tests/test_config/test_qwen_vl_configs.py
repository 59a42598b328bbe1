"""Qwen-VL: sizes, trained sets, image sizes and rates of its stages."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name
from mmvlm.datasets.processor import pipelines

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "qwen_vl"
TOWER, CONNECTOR, LANGUAGE = 1_842_770_688, 91_791_360, 7_721_324_544
#: ln_post and proj, the end of the official tower.
END = 2 * 4096 + 4096**2
LORA = 128_974_848
#: data: trained weights of each part, pixels, learning rate, global batch
STAGES = {
    "web-1b4": ((TOWER, CONNECTOR, 0), 224, 2e-4, 30720),
    "multitask-77m": ((TOWER, CONNECTOR, LANGUAGE), 448, 5e-5, 4096),
    "chat-350k": ((0, CONNECTOR, LANGUAGE), 448, 1e-5, 128),
    "custom": ((0, CONNECTOR - END, LANGUAGE), 448, 1e-5, 128),
    "referring": ((0, CONNECTOR - END, LANGUAGE), 448, 1e-5, 128),
    "lora": ((0, 0, LORA), 448, 1e-5, 8),
}
FILES = {
    parse_name(f).data if parse_name(f).tuning == "full" else "lora": f
    for f in sorted(FOLDER.glob("*.py"))
}


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_every_stage_has_its_config():
    assert set(FILES) == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_sizes_and_trained_sets(stage):
    result = dry_run(load_config(FILES[stage], check=False))
    adapters = LORA if stage == "lora" else 0

    sizes = [row.parameters for row in result.parts]
    trained = tuple(row.trainable for row in result.parts)

    assert sizes == [TOWER, CONNECTOR, LANGUAGE + adapters]
    assert trained == STAGES[stage][0]
    assert result.image_tokens == 256
    # Published: 1.9, 0.08 and 7.7 billion, 9.6 in all; the norm and matrix at the
    # tower's end stand in our connector.
    assert [round((TOWER + END) / 1e9, 1), round((CONNECTOR - END) / 1e9, 2)] == [
        1.9,
        0.08,
    ]
    assert int(sum([*sizes[:2], LANGUAGE]) / 1e8) == 96


@pytest.mark.parametrize("stage", STAGES)
def test_recipe(stage):
    cfg = load_config(FILES[stage], check=False)
    _, pixels, rate, batch = STAGES[stage]
    _, steps = next(pipelines(cfg))
    resize, write = steps[1], [s["type"] for s in steps if "codec" in s]

    assert (resize["type"], resize["size"]) == ("ResizeSquare", pixels)
    assert cfg.optim_wrapper.optimizer.lr == rate
    assert cfg.base_batch_size == batch
    assert write == ([] if stage == "web-1b4" else ["WriteRegions"])
    assert cfg.chat_template.type == ("plain" if stage == "web-1b4" else "qwen")
    if stage in ("custom", "referring", "lora"):
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.weight_decay, optimizer.betas[1]) == (0.1, 0.95)
        assert cfg.param_scheduler[0].warmup_ratio == 0.01
        assert cfg.train_cfg.max_epochs == 5


def test_special_tokens_have_the_official_ids():
    cfg = load_config(FILES["chat-350k"], check=False)
    base = 151646  # Qwen1.5's vocabulary: 151643 pieces and three special tokens

    added = cfg.tokenizer.additional_special_tokens

    assert base + added.index("<img>") == 151857
    assert base + added.index("</img>") == 151858
    assert base + added.index("<imgpad>") == 151859
    assert cfg.model.language_model.config.vocab_size == 151936


def test_next_stage_starts_from_the_one_before():
    for stage, before in (("multitask-77m", "web-1b4"), ("chat-350k", "multitask-77m")):
        source = load_config(FILES[stage], check=False).load_from
        path = source[0].path if isinstance(source, list) else source.path
        assert Path(path).name == FILES[before].stem
