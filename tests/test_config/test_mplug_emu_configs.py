"""mPLUG-Owl and Emu: sizes, trained sets, recipes."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name

ROOT = Path(__file__).resolve().parents[2]
LLAMA_7B, LLAMA_13B = 6_738_415_616, 13_015_864_320
#: Abstractor and C-Former at their released sizes, by the formulas of their classes.
D, F = 1024, 4096
ABSTRACTOR = 6 * (4 * D * D + 3 * D * F + 11 * D + 4 * F) + 64 * D + D * 4096 + 2 * 4096
C_FORMER = 12 * (6 * 768 * 768 + 2 * 1408 * 768 + 2 * 768 * 3072 + 3 * 768)
C_FORMER += 32 * 12 + 768 + 32 * 768 + 768 * 5120 + 5120 + 2 * 1408
#: LoRA on q_proj and v_proj: layers x 2 matrices x 2 x width x rank.
LORA_7B, LORA_13B = 32 * 2 * 2 * 4096 * 8, 40 * 2 * 2 * 5120 * 16
HEAD = 5120 * 5120


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def configs(folder):
    paths = (ROOT / "configs" / folder).glob("*.py")
    return {parse_name(path).stage: load_config(path, check=False) for path in paths}


def table(cfg):
    result = dry_run(cfg)
    rows = {row.part: (row.parameters, row.trainable) for row in result.parts}
    return rows, result.image_tokens


def test_mplug_owl_trains_the_eyes_first_and_adapters_then():
    found = configs("mplug_owl")

    first, tokens = table(found["pt"])
    second, _ = table(found["ft"])

    clip = first["vision_encoder"][0]
    assert tokens == 65
    assert first == dict(
        vision_encoder=(clip, clip - 2 * D),
        connector=(ABSTRACTOR, ABSTRACTOR),
        language_model=(LLAMA_7B, 0),
    )
    assert second == dict(
        vision_encoder=(clip, 0),
        connector=(ABSTRACTOR, 0),
        language_model=(LLAMA_7B + LORA_7B, LORA_7B),
    )


def test_mplug_owl_follows_the_released_script():
    cfg = configs("mplug_owl")["ft"]
    schedule, wrapper = cfg.param_scheduler[0], cfg.optim_wrapper

    assert (wrapper.optimizer.lr, wrapper.optimizer.weight_decay) == (2e-5, 1e-4)
    assert schedule.min_ratio * 2e-5 == pytest.approx(1e-6)
    assert schedule.warmup_ratio * 4236 == pytest.approx(50)
    assert 361_481 * 3 // cfg.base_batch_size == 4236
    assert wrapper.clip_grad.max_norm == 1.0
    assert cfg.train_dataloader.dataset.pipeline[2].max_length == 2048
    assert cfg.train_cfg.max_epochs == 3


def test_emu_trains_all_with_both_losses_and_adapters_then():
    found = configs("emu")

    first, tokens = table(found["pt"])
    second, _ = table(found["ft"])

    grown = LLAMA_13B + 2 * 6 * 5120
    assert tokens == 32
    assert first["connector"] == (C_FORMER, C_FORMER)
    assert first["head"] == (HEAD, HEAD)
    assert first["language_model"] == (grown, grown)
    eyes, trained = first["vision_encoder"]
    assert trained == eyes - 2 * 1408
    assert {name: trained for name, (_, trained) in second.items()} == dict(
        vision_encoder=0, connector=0, language_model=LORA_13B, head=0
    )
    assert found["pt"].model.heads.head.weight == 1.0
    assert found["pt"].chat_template == "emu_plain"
