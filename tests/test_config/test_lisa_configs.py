"""LISA: sizes, trained set, recipe, sources."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run

ROOT = Path(__file__).resolve().parents[2]
FULL = "lisa/lisa-clip-l14-224-sam-h_linear_vicuna-7b_8xb2-5k-ft-lora_lisa-mix.py"
TINY = "tiny/lisa-clip-sam-tiny_mlp2x_llama-tiny_1xb24-1k-ft_tiny-scenes.py"
SAM_H, DECODER, PROMPTS = 641_090_608, 4_058_340, 6_220
LORA, TABLES, PROJECTION = 4_194_304, 262_168_576, 17_830_144


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_lisa_trains_what_the_paper_trains():
    result = dry_run(load_config(f"configs/{FULL}", check=False))
    parts = {row.part: (row.parameters, row.trainable) for row in result.parts}

    assert parts["language_model"][1] == LORA + TABLES
    assert parts["mask"] == (PROJECTION + DECODER + PROMPTS, PROJECTION + DECODER)
    assert parts["sam"] == (SAM_H - DECODER - PROMPTS, 0)
    assert parts["vision_encoder"][1] == parts["connector"][1] == 0
    assert sum(trained for _, trained in parts.values()) == 288_251_364
    assert result.image_tokens == 256


def test_lisa_follows_the_released_script():
    cfg = load_config(f"configs/{FULL}", check=False)
    optimizer = cfg.optim_wrapper.optimizer
    mixture = cfg.train_dataloader.dataset

    assert (optimizer.lr, optimizer.betas, optimizer.weight_decay) == (
        3e-4,
        (0.9, 0.95),
        0.0,
    )
    assert cfg.optim_wrapper.clip_grad.max_norm == 1.0
    assert cfg.optim_wrapper.accumulative_counts == 10
    assert cfg.train_dataloader.batch_size * 10 * 8 == cfg.base_batch_size == 160
    assert cfg.train_cfg.max_iters == 5000
    assert cfg.param_scheduler[0].warmup_ratio * 5000 == 100
    assert cfg.model.heads.mask.weight == dict(mask_bce=2.0, mask_dice=0.5)
    shares = dict(zip([d.name for d in mixture.datasets], mixture.weights, strict=True))
    refer = sum(v for k, v in shares.items() if k.startswith("ref"))
    rest = {k: shares.pop(k) for k in ("llava-150k", "reason-seg")}
    classes = sum(v for k, v in shares.items() if not k.startswith("ref"))
    assert [classes, refer, *rest.values()] == [180, 60, 60, 20]  # 9 : 3 : 3 : 1


def test_the_tiny_lisa_has_the_same_parts():
    full, tiny = (load_config(f"configs/{name}", check=False) for name in (FULL, TINY))

    for key in ("encoders", "heads"):
        kinds = [
            {name: part.type for name, part in cfg.model[key].items()}
            for cfg in (full, tiny)
        ]
        assert kinds[0] == kinds[1]
    steps = [
        [s.type for s in cfg.train_dataloader.dataset.datasets[0].pipeline][2:]
        for cfg in (full, tiny)
    ]
    assert steps[0] == steps[1]
