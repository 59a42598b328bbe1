"""Trained weights are float32 and move at the recipes' learning rates."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from engine_toys import toy_config

from mmvlm.config import load_config
from mmvlm.engine.optimizers.float32_weights import train_in_float32
from mmvlm.engine.runner import build_runner
from mmvlm.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def losses(folder):
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").open()]
    return [row["loss"] for row in rows]


def moved(folder):
    """Share of the weights with a gradient that 40 steps changed; trained dtypes.

    Rows of tokens that no sample holds have none.
    """
    first, last = torch.load(folder / "first.pth"), torch.load(folder / "iter_40.pth")
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
        assert losses(root / f"{recipe}-{name}-resumed") == own[20:], (recipe, name)
        whole, resumed = (
            torch.load(f / "iter_40.pth")["state_dict"]
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
