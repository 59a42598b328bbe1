"""Benchmarks in the midst of training: scores as ever, and the same training."""

import json
from types import SimpleNamespace

import pytest
import torch
from engine_jobs import mixed_config

from mmvlm.config import ConfigError, load_config
from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
from mmvlm.engine.hooks.progress_hook import read_scalars
from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.benchmark_loop import BenchmarkValLoop

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_benchmarks(folder, num=14, seed=1, formats=["pope"])
    return folder


def config(work_dir, data=None, steps=4):
    cfg = mixed_config(str(work_dir), steps)
    cfg.default_hooks.checkpoint.save_best = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    if data is not None:
        cfg.default_hooks.checkpoint.save_best = "pope/f1"
        cfg.train_cfg.val_interval = 1
        cfg.model.generation = dict(max_new_tokens=4)
        cfg.val_cfg = dict(
            type="BenchmarkValLoop",
            benchmarks="pope",
            limit=5,
            data_root=str(data),
            batch_tokens=1,  # a question alone seeds the generators
        )
    return cfg


def losses(work_dir):
    rows = read_scalars(str(work_dir))
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def weights(work_dir):
    name = (work_dir / "last_checkpoint").read_text().strip()
    return torch.load(work_dir / name, weights_only=True)["state_dict"]


def test_training_is_the_same_with_and_without_benchmarks(tmp_path, data):
    build_runner(config(tmp_path / "without")).train()
    build_runner(config(tmp_path / "with", data, steps=2)).train()
    build_runner(config(tmp_path / "with", data)).train()  # resumes

    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    one, two = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (tmp_path / "with/best.pth").is_file()
    for step in (1, 2, 3, 4):
        folder = tmp_path / f"with/benchmarks/iter_{step}"
        (row,) = json.loads((folder / "results.json").read_text())
        assert (row["expected"], row["answered"], row["limit"]) == (5, 5, 5)


@pytest.mark.parametrize("deterministic", [False, True])
def test_half_precision_is_warned_of_unless_each_is_asked_alone(
    tmp_path, data, deterministic
):
    cfg = config(tmp_path, data, steps=1)
    cfg.val_cfg.update(dtype="bfloat16", deterministic=deterministic)

    build_runner(cfg).train()

    (row,) = json.loads((tmp_path / "benchmarks/iter_1/results.json").read_text())
    if deterministic:
        assert row["deterministic"] is True and "flips" not in row
    else:
        assert row["flips"]["asked"] == 5 and "deterministic" not in row


def test_weights_that_are_spread_are_refused():
    loop = object.__new__(BenchmarkValLoop)
    strategy = SimpleNamespace(shards_weights=True)
    loop._runner = SimpleNamespace(strategy=strategy, model=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"FSDP and ZeRO-3 spread them"):
        loop.run()


def test_the_doctor_knows_the_loop(tmp_path, data):
    text = "_base_ = [{!r}]\nval_cfg = dict(type='BenchmarkValLoop', {})\n"
    base = load_config("llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes")
    path = tmp_path / "llava-tiny_mlp2x_tiny_1xb2-20i-pt_toy.py"
    path.write_text(text.format(base.filename, "benchmarks=['pope'], limit=9"))
    assert load_config(path, check_sources=False).val_cfg.limit == 9

    path.write_text(text.format(base.filename, "benchmark=['pope']"))
    with pytest.raises(ConfigError, match="unexpected keyword 'benchmark'"):
        load_config(path, check_sources=False)
