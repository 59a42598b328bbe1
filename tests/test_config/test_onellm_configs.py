"""OneLLM's full configs: trained parts, sizes, batches, what begins as what."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.meta_model import build_on_meta
from mmvlm.engine.optimizers.part_constructor import PartOptimWrapperConstructor

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "onellm"
STAGES = {
    1: "onellm-clip-l14-224_upm-e1_llama2-7b_16xb40-25k-pt_laion",
    2: "onellm-clip-l14-224_upm-e3_llama2-7b_8xb40-25k-pt_audio-point-video",
    3: "onellm-clip-l14-224_upm-e3_llama2-7b_8xb40-12500i-pt_depth-normal-imu-fmri",
    4: "onellm-clip-l14-224_upm-e3_llama2-7b_8xb4-1e-ft_onellm-2m",
}
MODALITIES = {1: 1, 2: 4, 3: 8, 4: 8}
#: CLIP ViT-L/14 with its final norm, and Llama-2-7B.
TOWER, LANGUAGE = 303_179_776, 6_738_415_616
#: Per expert; the paper says 88 M.
EXPERT = 102_776_832
WIDTH, OUT = 1024, 4096
OWN = 30 * WIDTH + (WIDTH**2 + 3 * WIDTH) + (WIDTH * OUT + 3 * OUT) + 2 * OUT
ROUTER = 4 * WIDTH**2 + 4 * WIDTH + (4 * WIDTH + 1) * 3
TOKENIZERS = dict(
    audio=(16 * 16 + 1) * WIDTH + 1213 * WIDTH,
    point=7 * WIDTH + 1025 * WIDTH,
    imu=60 * WIDTH + 392 * WIDTH,
    fmri=15725 * 8192 + 9 * WIDTH,
)


def _load(stage):
    return load_config(FOLDER / f"{STAGES[stage]}.py", check=False)


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_the_computed_sizes_and_trains_its_parts(stage):
    cfg = _load(stage)
    modalities = MODALITIES[stage]

    result = dry_run(cfg)

    parts = {row.part: row for row in result.parts}
    known = cfg.model.vision_encoder.tokenizers
    tokenizers = sum(TOKENIZERS.get(name, 0) for name in known)
    connector = EXPERT + OWN
    if stage > 1:
        connector = 3 * EXPERT + modalities * (OWN + ROUTER)
    assert parts["vision_encoder"].parameters == TOWER + tokenizers
    assert parts["connector"].parameters == connector
    assert parts["language_model"].parameters == LANGUAGE
    trained = {name: row.trainable for name, row in parts.items()}
    wanted = dict(vision_encoder=tokenizers, connector=connector, language_model=0)
    if stage == 4:
        wanted = dict(vision_encoder=0, connector=0, language_model=LANGUAGE)
    assert trained == wanted
    assert result.image_tokens == 32


@pytest.mark.parametrize(
    "stage, rate, last, batch",
    [
        (1, 5e-5, 0.1, 5120),
        (2, 1e-5, 0.5, 5120),
        (3, 1e-5, 0.5, 5120),
        (4, 2e-5, 0, 128),
    ],
)
def test_a_stage_follows_the_recipe(stage, rate, last, batch):
    cfg = _load(stage)
    optimizer = cfg.optim_wrapper.optimizer

    assert optimizer.lr == rate
    assert tuple(optimizer.betas) == (0.9, 0.95)
    assert optimizer.weight_decay == (0.0 if stage == 4 else 0.1)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=2.0)
    assert cfg.optim_wrapper.paramwise_cfg.norm_and_bias_decay is False
    assert cfg.param_scheduler[0].get("min_ratio", 0) == last
    assert cfg.base_batch_size == batch
    sampler = cfg.train_dataloader.sampler
    assert sampler.type == "SingleModalitySampler"
    assert sampler.order == ("shuffled" if stage == 4 else "round_robin")


@pytest.mark.parametrize(
    ("stage", "micro_batches", "samples"),
    [(1, 200_000, 40 * 16), (2, 400_000, 40 * 8), (3, 200_000, 40 * 8)],
)
def test_steps_are_the_scripts_micro_batches(stage, micro_batches, samples):
    """The released loop counts micro-batches of all GPUs, warm-up included."""
    cfg = _load(stage)
    steps = cfg.train_cfg.max_iters

    assert steps * cfg.optim_wrapper.accumulative_counts == micro_batches
    assert steps * cfg.base_batch_size == micro_batches * samples
    assert cfg.param_scheduler[0].warmup_ratio * micro_batches == 2000


def test_layer_norms_of_the_projections_decay_as_in_the_released_code():
    model = build_on_meta(_load(3).model)
    paramwise = _load(3).optim_wrapper.paramwise_cfg
    rule = PartOptimWrapperConstructor(dict(), paramwise)

    decayed = {
        name
        for name, module in model.named_modules()
        for key, _ in module.named_parameters(recurse=False)
        if key == "weight" and "orm" in type(module).__name__
        if name.startswith("connector") and rule.decays(f"{name}.weight", module)
    }

    assert len(decayed) == 2 * 8
    assert all(".proj_" in name and name.endswith(".1") for name in decayed)


@pytest.mark.parametrize("stage", [2, 3, 4])
def test_a_stage_begins_where_the_one_before_ended(stage):
    (source,) = _load(stage).load_from

    assert Path(source.path).name == STAGES[stage - 1]
    assert bool(source.get("grow")) == (stage < 4)
    tower = stage > 2
    assert ("vision_encoder" in source.parts) == tower
    assert "connector" in source.parts
