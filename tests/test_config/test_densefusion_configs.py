"""The three stages of DenseFusion: sizes, trained weights, recipe and chain."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "densefusion").glob("*.py"))
STAGES = ("pt_densefusion-1m", "ft_densefusion-1m", "ft_llava-665k")
#: (learning rate, samples per GPU, accumulation, most tokens, view, template)
RECIPE = {
    STAGES[0]: (1e-3, 16, 1, 2000, "CenterCropSquare", "plain"),
    STAGES[1]: (2e-5, 8, 2, 2100, "CenterCropSquare", "plain"),
    STAGES[2]: (2e-5, 8, 1, 2048, "PadToSquare", "vicuna_v1"),
}
VISION, LANGUAGE = 303_507_456, 6_738_415_616
#: Blocks of 1024 channels with an MLP of 4096: 12 of 24 are trained.
BLOCK = 12_596_224
CONNECTOR = {False: 20_979_712, True: 29_368_320}


def stage_of(path):
    return next(stage for stage in STAGES if path.stem.endswith(stage))


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(params=FILES, ids=[path.stem for path in FILES])
def path(request):
    return request.param


def test_every_variant_has_three_stages():
    variants = {path.stem.split("_")[0] for path in FILES}
    assert len(variants) == 3
    assert len(FILES) == 9
    assert any("s2" in name for name in variants)


def test_sizes_and_trained_weights(path):
    result = dry_run(load_config(path, check=False))

    rows = {row.part: row for row in result.parts}
    has_s2, stage = "-s2_" in path.stem, STAGES.index(stage_of(path))
    assert rows["vision_encoder"].parameters == VISION
    assert rows["connector"].parameters == CONNECTOR[has_s2]
    assert rows["language_model"].parameters == LANGUAGE
    assert {name: row.trainable for name, row in rows.items()} == dict(
        vision_encoder=(0, 12 * BLOCK, 0)[stage],
        connector=CONNECTOR[has_s2],
        language_model=(0, LANGUAGE, LANGUAGE)[stage],
    )
    assert result.image_tokens == 576
    assert result.widths["vision_encoder"] == (3072 if has_s2 else 1024)
    assert result.token_budget.startswith("1008x1008" if has_s2 else "336x336")


def test_recipe_is_that_of_the_scripts_or_of_table_6(path):
    cfg, stage = load_config(path, check=False), stage_of(path)
    rate, batch, steps, tokens, view, template = RECIPE[stage]
    is_table_6 = "table6" in path.stem
    pipeline = cfg.train_dataloader.dataset.pipeline

    assert cfg.optim_wrapper.optimizer.lr == (2e-5 if is_table_6 else rate)
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.0
    assert cfg.optim_wrapper.paramwise_cfg.parts == {}
    assert cfg.optim_wrapper.accumulative_counts == steps
    (schedule,) = cfg.param_scheduler
    assert schedule.type == "WarmupCosineLR"
    assert schedule.warmup_ratio == (0.01 if is_table_6 else 0.03)
    assert cfg.train_cfg.max_epochs == 1
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.base_batch_size == 16 * batch * steps
    assert [step.type for step in pipeline][1] == view
    assert pipeline[2].max_length == tokens
    assert pipeline[2].count_images is False
    assert cfg.chat_template == template
    assert cfg.strategy.zero_optimization.stage == 3
    assert cfg.model.language_model.gradient_checkpointing == "all"
    assert cfg.model.connector.select_layers == [-2]
    reader = ("DenseFusionDataset", "RandomBatchSampler")
    if stage == STAGES[2]:
        reader = ("LLaVADataset", "ModalityLengthSampler")
    loader = cfg.train_dataloader
    assert (loader.dataset.type, loader.sampler.type) == reader


def test_a_stage_starts_from_the_one_before(path):
    cfg, number = load_config(path, check=False), STAGES.index(stage_of(path))
    if number == 0:
        assert cfg.load_from is None
        return

    before = path.parent / f"{Path(cfg.load_from.path).name}.py"

    assert before.is_file()
    assert stage_of(before) == STAGES[number - 1]
    first, here = parse_name(before), parse_name(path)
    assert (first.model, first.connector, first.llm) == (
        here.model,
        here.connector,
        here.llm,
    )
    parts = ["connector"] if number == 1 else [*cfg.model.train_parts]
    assert cfg.load_from.parts == parts
    saved = load_config(before, check=False).default_hooks.checkpoint
    assert saved.get("trainable_only", False) == (number == 1)


def test_trained_blocks_are_the_official_ones():
    (path,) = [p for p in FILES if "s2" in p.stem and p.stem.endswith(STAGES[1])]
    from mmvlm.config.meta_model import build_on_meta

    model = build_on_meta(load_config(path, check=False).model)

    names = [n for n, p in model.vision_encoder.named_parameters() if p.requires_grad]
    blocks = {int(name.split(".layers.")[1].split(".")[0]) for name in names}
    assert blocks == set(range(12, 24))
