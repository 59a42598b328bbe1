"""Trained weights are float32 and move at the recipes' learning rates."""

import json
from pathlib import Path

import pytest
import torch
from engine_jobs import add_validation

from mmvlm.config import ConfigError, load_config
from mmvlm.engine.optimizers.float32_weights import train_in_float32
from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.checkpoint import load_file
from mmvlm.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FULL = "llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py"
LORA = FULL.replace("-ft_", "-ft-lora_")
DDP = 'strategy = dict(_delete_=True, type="VLMDDPStrategy")'


def losses(folder):
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").open()]
    return [row["loss"] for row in rows]


def moved(folder):
    """Share of the weights with a gradient that 12 steps changed; trained dtypes.

    Rows of tokens that no sample holds have none.
    """
    first, last = torch.load(folder / "first.pth"), torch.load(folder / "iter_12.pth")
    had, changed, dtypes = 0, 0, set()
    for name, state in last["optimizer"]["state"].items():
        key = name.replace(".base_layer.", ".")
        old, new = first[key], last["state_dict"][key]
        had += int((state["exp_avg_sq"] != 0).sum())
        changed += int((old != new).sum())
        dtypes.add(new.dtype)
    return changed / had, dtypes


def check_moving(jobs, root, names):
    """Train both recipes in one process and under each strategy."""
    recipes = ("full", "lora")
    jobs.check(root, "train_moving", str(root), [(r, "none") for r in recipes])
    cases = [(r, name) for r in recipes for name in names]
    jobs.check(root, "train_moving", str(root), cases, world=2)
    for recipe, name in [(r, "none") for r in recipes] + cases:
        folder = root / f"{recipe}-{name}"
        share, dtypes = moved(folder)
        own, expected = losses(folder), losses(root / f"{recipe}-none")
        apart = max(abs(a / b - 1) for a, b in zip(own, expected, strict=True))
        print(f"{recipe} {name}: {share:.2%} moved, losses within {apart:.2%}")
        assert share > 0.95, (recipe, name)
        assert dtypes == {torch.float32}, (recipe, name)
        assert apart < 0.01, (recipe, name)
        assert losses(root / f"{recipe}-{name}-resumed") == own[10:], (recipe, name)
        whole, resumed = (
            torch.load(f / "iter_12.pth")["state_dict"]
            for f in (folder, root / f"{recipe}-{name}-resumed")
        )
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.slow
@pytest.mark.multiproc
def test_weights_move_and_resume_under_ddp_and_fsdp(jobs, tmp_path):
    check_moving(jobs, tmp_path, ["ddp", "fsdp"])


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.optional_deepspeed
def test_weights_move_and_resume_under_zero2_and_zero3(jobs, tmp_path):
    pytest.importorskip("deepspeed", reason="needs the package deepspeed")
    check_moving(jobs, tmp_path, ["deepspeed_zero2", "deepspeed_zero3"])


def test_what_is_trained_becomes_float32_and_the_rest_stays():
    model = MODELS.build(load_config(LORA, tiny=True).model)
    model.to(torch.bfloat16)
    train_in_float32(model, torch.bfloat16)

    for name, param in model.named_parameters():
        expected = torch.float32 if param.requires_grad else torch.bfloat16
        assert param.dtype == expected, name
    assert any(p.requires_grad and "lora_" in n for n, p in model.named_parameters())


def test_without_autocast_half_precision_is_refused_with_numbers():
    model = MODELS.build(load_config(LORA, tiny=True).model).to(torch.bfloat16)
    sizes = {row["part"]: row["trainable"] for row in model.part_table()}

    with pytest.raises(ValueError, match=r"optim_wrapper\.dtype=None.*bfloat16") as e:
        train_in_float32(model, None)

    assert f"language_model ({sizes['language_model']:,})" in str(e.value)
    train_in_float32(model, None, masters=True)
    assert next(p for p in model.parameters() if p.requires_grad).dtype != torch.float32


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_the_doctor_refuses_half_precision_without_autocast(dtype, tmp_path):
    child = tmp_path / "child.py"
    lines = (
        f"_base_ = {str(CONFIGS / FULL)!r}",
        f"optim_wrapper = dict(dtype={dtype!r})",
    )
    child.write_text("\n".join((*lines, DDP)))

    with pytest.raises(
        ConfigError, match=r"optim_wrapper\.dtype=.*language_model \(6,"
    ):
        load_config(child)

    child.write_text("\n".join((lines[0], DDP)))
    load_config(child)


def validated_config(work_dir):
    """A fine-tuning of the upper half of a bfloat16 model that is validated."""
    cfg = load_config(FULL, tiny=True)
    cfg.model.language_model.torch_dtype = "bfloat16"
    cfg.model.vision_encoder.torch_dtype = "bfloat16"
    cfg.model.train_parts = dict(
        vision_encoder=False, connector=True, language_model=dict(last_blocks=1)
    )
    cfg.optim_wrapper.dtype = "bfloat16"
    add_validation(cfg)
    cfg.default_hooks.provenance = None
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.work_dir = str(work_dir)
    return cfg


@pytest.mark.slow
def test_a_model_of_two_dtypes_is_validated_and_its_file_is_tested(tmp_path):
    cfg = validated_config(tmp_path)

    build_runner(cfg).train()

    state = load_file(tmp_path)["state_dict"]
    kinds = {value.dtype for key, value in state.items() if "layers." in key}
    assert kinds == {torch.float32, torch.bfloat16}
    for field in ("dataloader", "cfg", "evaluator"):
        cfg[f"test_{field}"] = cfg.pop(f"val_{field}")
    cfg.test_cfg = dict(type="VLMTestLoop")
    runner = build_runner(cfg)
    runner.load_trained(str(tmp_path))
    assert runner.test()
    weights = runner.model.language_model.parameters()
    assert {p.dtype for p in weights} == {torch.bfloat16}
