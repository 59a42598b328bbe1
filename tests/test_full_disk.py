"""A disk that takes no more: which file, why, and nothing half-written stays."""

import errno
import functools
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmvlm.utils.files import whole_folder, write_atomic, writing_into

ROOT = Path(__file__).parents[1]


def on_a_full_disk(test):
    """Let no file grow beyond 100 kB inside a test; pytest's own output may."""

    @functools.wraps(test)
    def limited(*args, **kwargs):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            test(*args, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


def save_tensors(folder):
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(dict(a=torch.zeros(100_000)), folder)


def save_text(folder):
    (folder / "model.safetensors").write_text("x" * 200_000)


@on_a_full_disk
def test_a_file_is_named_with_the_reason(tmp_path):
    with pytest.raises(OSError) as caught:
        write_atomic(
            tmp_path / "last.pth", lambda file: torch.save(torch.zeros(100_000), file)
        )
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(tmp_path / "last.pth")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("save", [save_tensors, save_text])
@on_a_full_disk
def test_a_folder_is_whole_or_absent(tmp_path, save):
    with pytest.raises(OSError) as caught:
        with whole_folder(tmp_path / "hf") as folder:
            (folder / "config.json").write_text("{}")
            save(folder)
    assert caught.value.errno == errno.EFBIG
    assert str(tmp_path / "hf") in str(caught.value) and ".part" not in str(
        caught.value
    )
    assert list(tmp_path.iterdir()) == []


@on_a_full_disk
def test_an_older_folder_stays_when_the_new_one_fails(tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "old").write_text("kept")
    with pytest.raises(FileExistsError, match="hf"):
        with whole_folder(tmp_path / "hf"):
            pass
    with pytest.raises(OSError, match="File too large"):
        with whole_folder(tmp_path / "hf", replace=True) as folder:
            save_text(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]
    assert (tmp_path / "hf" / "old").read_text() == "kept"


def test_an_older_folder_comes_back_when_the_new_one_cannot_move(tmp_path, monkeypatch):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "old").write_text("kept")
    move = os.replace

    def replace(source, target):
        if str(source).endswith(".part"):
            raise OSError(errno.EIO, "Input/output error", str(target))
        move(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output error"):
        with whole_folder(tmp_path / "hf", replace=True) as folder:
            (folder / "new").write_text("new")

    assert [p.name for p in tmp_path.iterdir()] == ["hf"]
    assert (tmp_path / "hf" / "old").read_text() == "kept"


@on_a_full_disk
def test_generated_data_name_the_file(tmp_path):
    with pytest.raises(OSError, match=r"File too large.*train\.json"):
        with writing_into(tmp_path):
            (tmp_path / "train.json").write_text("x" * 200_000)


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(KeyError):
        with whole_folder(tmp_path / "hf"):
            raise KeyError("x")
    with pytest.raises(FileNotFoundError, match="gone"):
        write_atomic(tmp_path / "a", lambda file: open("gone"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_place_of_an_older_one(tmp_path):
    for text in ("one", "two"):
        with whole_folder(tmp_path / "hf", replace=True) as folder:
            (folder / text).write_text(text)
    assert [p.name for p in (tmp_path / "hf").iterdir()] == ["two"]


@pytest.mark.slow
@on_a_full_disk
def test_the_demo_and_its_data_name_the_file(tmp_path):
    tool, options = ROOT / "tools" / "demo.py", ("--num", "1000", "--num-test", "18")
    done = subprocess.run(
        [sys.executable, str(tool), "--work-dir", str(tmp_path), *options],
        capture_output=True,
        text=True,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in told
    assert f"File too large: '{tmp_path / 'data'}" in told
    assert "make_tiny_scenes.py" in told and "Give the command again" in told


@on_a_full_disk
def test_pages_name_the_file(tmp_path):
    from feature_page import write_feature_page

    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    with pytest.raises(OSError, match=r"File too large.*features\.html"):
        write_feature_page(
            tmp_path / "features.html",
            title="maps " * 50_000,
            figures=[],
            image=image,
            grid=(1, 1),
            sampling={},
            query=(0, 0),
        )
    assert list(tmp_path.iterdir()) == []


@on_a_full_disk
def test_figures_name_the_file(tmp_path):
    from demo_report.loss_curves import draw_loss_curves

    from mmvlm.visualization.curves import draw_scalars

    rows = [dict(step=step, loss=1 / step) for step in range(1, 50)]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "scalars.jsonl").write_text(lines)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit))
    with pytest.raises(OSError, match=r"File too large.*loss\.png"):
        draw_scalars(rows, str(tmp_path / "loss.png"))
    stages = [dict(name="stage 1", scalars=tmp_path / "scalars.jsonl")]
    with pytest.raises(OSError, match=r"File too large.*curves\.png"):
        draw_loss_curves(stages, tmp_path / "curves.png")
