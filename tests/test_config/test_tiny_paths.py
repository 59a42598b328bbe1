"""After the demo, the configs of configs/tiny find what they read."""

import importlib.util
import os
import shlex
from pathlib import Path

import pytest

from mmvlm.config import ConfigError, load_config
from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes, maker_of

ROOT = Path(__file__).parents[2]
CONFIGS = {path.stem: path for path in sorted((ROOT / "configs/tiny").glob("*.py"))}
#: What the demo does not make; a message gives the command for each.
MADE_BY_HAND = {
    "work_dirs/densefusion-clip-tiny_mlp2x_llama-tiny_1xb64-300i-pt_tiny-scenes-dense",
    "work_dirs/densefusion-clip-tiny_mlp2x_llama-tiny_1xb64-600i-ft_tiny-scenes-dense",
    "work_dirs/flamingo-clip-tiny_perceiver_llama-tiny_1xb96-2k-ft_tiny-scenes",
    "work_dirs/sam-tiny_promptable_none_1xb24-400i-pt_tiny-scenes",
    "data/tiny_scenes/refcoco/refs(unc).p",
    "data/tiny_scenes/ade20k/objectInfo150.txt",
    "data/tiny_scenes/reason_seg/ReasonSeg/train",
    "data/tiny_scenes/reason_seg/ReasonSeg/val",
    "data/tiny_scenes/train_modalities.json",
    "data/tiny_scenes/test_modalities.json",
    "data/tiny_scenes/ferret_grit/vg_object_train.json",
    "data/tiny_scenes/ferret_grit/vg_object_test.json",
    "data/tiny_scenes_tangled/ferret_grit/vg_object_train.json",
    "data/tiny_scenes_tangled/ferret_grit/vg_object_test.json",
}


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def linked(demo, tmp_path_factory):
    """What the demo leaves behind, without the training."""
    root = tmp_path_factory.mktemp("clone")
    run = demo.Demo(demo.parse_args(["--work-dir", str(root / "work_dirs/demo")]))
    make_tiny_scenes(run.data, num_train=20, num_test=9)
    for name in demo.CONFIGS:
        folder = run.folder(name)
        folder.mkdir(parents=True)
        (folder / "iter_1.pth").write_bytes(b"")
        (folder / "last_checkpoint").write_text("iter_1.pth")
    run.link(root)
    return root


def _sets(part):
    """Return the data sets of a loader, those of a mixture too."""
    if not isinstance(part, dict | list):
        return []
    if isinstance(part, dict) and "ann_file" in part:
        return [part]
    parts = part.values() if isinstance(part, dict) else part
    return [one for inner in parts for one in _sets(inner)]


def paths_of(cfg):
    """Return the files and folders that a config reads."""
    found = [cfg.tokenizer.name_or_path]
    for loader in (cfg.train_dataloader, cfg.get("test_dataloader")):
        if loader:
            found += [f"{one.data_root}/{one.ann_file}" for one in _sets(loader)]
    return found + [part["path"] for part in cfg.get("load_from") or []]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_path_is_what_the_demo_leaves_or_is_told_how_to_make(
    name, linked, monkeypatch
):
    monkeypatch.chdir(linked)
    cfg = load_config(str(CONFIGS[name]), check=False)
    missing = {path for path in paths_of(cfg) if not Path(path).exists()}
    assert missing <= MADE_BY_HAND

    if not missing:
        load_config(str(CONFIGS[name]), check_files=("train", "test", "load_from"))
        return
    with pytest.raises(ConfigError) as error:
        load_config(str(CONFIGS[name]), check_files=("train", "test", "load_from"))
    for path in missing:
        if path.startswith("work_dirs/"):
            assert f"{Path(path).name}.py" in str(error.value)
            assert Path(path).name in CONFIGS
        else:
            assert maker_of(*os.path.split(path)) in str(error.value)


def test_the_command_for_missing_data_writes_them(tmp_path, monkeypatch):
    import runpy

    command = maker_of("data/tiny_scenes", "train_modalities.json")
    python, script, *arguments = shlex.split(command)
    assert python == "python"
    monkeypatch.chdir(tmp_path)
    tool = runpy.run_path(str(ROOT / script))["main"]

    assert tool([*arguments, "--num", "6", "--num-test", "9"]) == 0

    data = tmp_path / "data" / "tiny_scenes"
    assert (data / "train_modalities.json").is_file()
    assert (data / "train.json").is_file()  # what was there is written again


def test_what_is_not_the_demos_is_left_alone(demo, tmp_path, capsys):
    run = demo.Demo(demo.parse_args(["--work-dir", str(tmp_path / "work_dirs/demo")]))
    own = tmp_path / "data" / "tiny_scenes"
    own.mkdir(parents=True)

    run.link(tmp_path)
    run.link(tmp_path)  # again, its own links are known

    assert capsys.readouterr().out.count("left as it is") == 2
    assert not own.is_symlink()
