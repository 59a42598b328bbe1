"""tools/train.py and tools/test.py, in this process and by dist_train.sh."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mmvlm.config import ConfigError
from mmvlm.engine.hooks.progress_hook import read_scalars
from mmvlm.engine.runner.checkpoint import load_file

ROOT = Path(__file__).parents[2]
CONFIG = "llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py"


def run_tool(name, *arguments):
    main = runpy.run_path(str(ROOT / "tools" / f"{name}.py"))["main"]
    return main([str(argument) for argument in arguments])


@pytest.fixture
def config_path(tmp_path):
    """A config of the tiny model that is tested on the toy data."""
    from mmvlm.config import load_config

    cfg = load_config(CONFIG, tiny=True)
    dataset = cfg.train_dataloader.dataset.to_dict()
    steps = [dict(step) for step in dataset["pipeline"]]
    encode = next(s for s in steps if s["type"] == "EncodeConversation")
    encode.update(mode="generate")
    dataset.update(pipeline=steps, indices=5)
    cfg.test_dataloader = dict(batch_size=2, num_workers=0, dataset=dataset)
    cfg.test_cfg = dict(type="VLMTestLoop")
    cfg.test_evaluator = dict(type="ExactMatchMetric")
    cfg.model.generation = dict(max_new_tokens=3)
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    path = tmp_path / "tested.py"
    cfg.dump(str(path))
    return path


def test_train_resume_and_test_from_the_command_line(tmp_path, config_path, capsys):
    work = tmp_path / "run"
    options = ["--work-dir", work, "--seed", 7, "--deterministic", "--cfg-options"]

    run_tool("train", config_path, *options, "train_cfg.max_iters=2")
    run_tool("train", config_path, "--resume", *options, "train_cfg.max_iters=3")
    capsys.readouterr()
    metrics = run_tool(
        "test", config_path, work / "iter_3.pth", "--work-dir", tmp_path / "test",
        "--out", tmp_path / "results.json",
    )  # fmt: skip

    content = load_file(work / "iter_3.pth")
    assert content["meta"]["seed"] == 7 and content["loop"]["iter"] == 3
    table = capsys.readouterr().out.splitlines()[-len(metrics) :]
    assert [line.split()[0] for line in table] == list(metrics)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["metrics"] == json.loads(json.dumps(metrics))
    assert any(value == 5 for value in metrics.values())


def test_misspelt_option_is_refused_before_anything_is_built(tmp_path, config_path):
    with pytest.raises(ConfigError, match="conector"):
        run_tool(
            "train", config_path, "--work-dir", tmp_path / "x",
            "--cfg-options", "model.conector.depth=3",
        )  # fmt: skip

    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("tool", "key"), [("train", "train_dataloader"), ("test", "test_dataloader")]
)
def test_missing_data_is_refused_before_anything_is_built(
    tmp_path, config_path, tool, key
):
    arguments = [config_path] + [tmp_path / "none.pth"] * (tool == "test")

    with pytest.raises(
        ConfigError,
        match=rf"1 problem\n.*{key}\.dataset\.ann_file=.*no such file '.*gone",
    ):
        run_tool(
            tool, *arguments, "--work-dir", tmp_path / "x",
            "--cfg-options", f"{key}.dataset.ann_file=gone.json",
        )  # fmt: skip

    assert not (tmp_path / "x").exists()


def test_missing_start_weights_are_refused_unless_resuming(tmp_path, config_path):
    arguments = [config_path, "--work-dir", tmp_path / "run"]
    options = ["--cfg-options", "default_hooks.checkpoint.interval=1"]
    start = ["+load_from=nowhere.pth"]

    with pytest.raises(ConfigError, match=r"load_from.*'nowhere\.pth' does not exist"):
        run_tool("train", *arguments, *options, *start, "train_cfg.max_iters=2")
    run_tool("train", *arguments, *options, "train_cfg.max_iters=1")
    run_tool("train", *arguments, "--resume", *options, *start, "train_cfg.max_iters=2")

    assert (tmp_path / "run" / "iter_2.pth").is_file()


@pytest.mark.slow
@pytest.mark.multiproc
def test_dist_train_script_runs_two_processes(tmp_path):
    from engine_jobs_entry import free_port

    env = dict(os.environ, PORT=str(free_port()), PYTHON=sys.executable)
    env.update(OMP_NUM_THREADS="1")
    command = [ROOT / "tools/dist_train.sh", CONFIG, 2, "--tiny"]
    command += ["--work-dir", tmp_path / "run", "--cfg-options"]
    command += ["default_hooks.logger.interval=1"]

    done = subprocess.run(
        [str(part) for part in command], env=env, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert [row["step"] for row in read_scalars(tmp_path / "run")] == [1, 2]
    start = json.loads((tmp_path / "run/run.json").read_text())[0]
    assert start["processes"] == 2
