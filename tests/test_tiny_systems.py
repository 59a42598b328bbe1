"""Every config of configs/tiny, and of the ablations of regions, trains and is scored.

Two steps each, on weights of the runs that a config begins with: it shows that the
parts of a system meet, learn, are saved, loaded and generate; accuracy takes the whole
run.
"""

import json
import math
import runpy
from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.engine.hooks.progress_hook import read_scalars
from mmvlm.registry import SCENE_WRITERS

ROOT = Path(__file__).parents[1]
ABLATIONS = "configs/ablations/tiny_scenes"
FILES = (
    *("configs/tiny/*.py", f"{ABLATIONS}/boxes/*.py", f"{ABLATIONS}/regions/*.py"),
    f"{ABLATIONS}/lisa/*.py",
)
CONFIGS = {path.stem: path for one in FILES for path in sorted(ROOT.glob(one))}
#: Of variants that differ in little, some are trained in every run of the tests.
OFTEN = ("regions-tokens", "regions-coordinates", "lisa-no-questions", "lisa-clip")
NUM_TEST = 18
#: Prefix and name of the number that a system is scored by; the last one is the rule.
HEADLINES = (("rec", "acc"), ("mask", "giou"), ("tiny_scenes", "accuracy"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with TinyScenes in every format where the configs expect it."""
    folder = tmp_path_factory.mktemp("tiny")
    SCENE_WRITERS.import_from_location()
    make_tiny_scenes(
        str(folder / "data" / "tiny_scenes"),
        num_train=200,
        num_test=NUM_TEST,
        seed=0,
        formats=tuple(SCENE_WRITERS.module_dict),
    )
    make_tiny_scenes(
        str(folder / "data" / "tiny_scenes_tangled"),
        num_train=60,
        num_test=NUM_TEST,
        formats=("llava", "ferret_grit"),
        style="tangled",
    )
    return folder


def tool(name, *arguments):
    result = runpy.run_path(str(ROOT / "tools" / name))["main"](list(arguments))
    assert not isinstance(result, str), result  # the text of an error


def train(name, workspace):
    """Train a config for two steps, after those that it loads; give its work dir."""
    work = workspace / "work_dirs" / name
    if (work / "last_checkpoint").exists():
        return work
    cfg = load_config(str(CONFIGS[name]), check=False)
    for source in cfg.get("load_from") or []:
        train(Path(source["path"]).name, workspace)
    options = ["train_cfg.max_iters=2", "train_dataloader.batch_size=6"]
    tool("train.py", str(CONFIGS[name]), "--cfg-options", *options)
    return work


def losses(work):
    return [row["loss"] for row in read_scalars(str(work)) if "loss" in row]


def mark(name):
    seldom = name.startswith(("regions-", "lisa-")) and not name.startswith(OFTEN)
    return pytest.param(name, marks=pytest.mark.slow) if seldom else name


@pytest.mark.parametrize("name", map(mark, CONFIGS))
def test_a_tiny_system_trains_and_is_scored(name, workspace, monkeypatch):
    monkeypatch.chdir(workspace)

    work = train(name, workspace)

    assert losses(work) and all(map(math.isfinite, losses(work)))
    if load_config(str(CONFIGS[name])).get("test_dataloader") is None:
        return  # towers and first stages are scored in what they serve
    out = work / "results.json"
    tool("test.py", str(CONFIGS[name]), str(work), "--out", str(out))
    metrics = json.loads(out.read_text())["metrics"]
    kind, headline = next(h for h in HEADLINES if f"{h[0]}/num" in metrics)
    assert metrics[f"{kind}/num"] > 0
    assert 0 <= metrics[f"{kind}/{headline}"] <= 1


def test_true_answers_show_what_a_syntax_can_say(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    folder = ROOT / ABLATIONS / "boxes"
    out = workspace / "ceilings.json"
    ways = ("cells", "head", "numerals")
    files = [
        str(p) for p in sorted(folder.glob("*.py")) if p.stem.split("-")[1] in ways
    ]

    answers = workspace / "answers.jsonl"
    answers.write_text("of a model")
    options = ["--cfg-options", f"test_evaluator.out_file={answers}"]

    tool(
        "analysis/ceilings.py",
        *files,
        "--metrics",
        "rec/*",
        "--out",
        str(out),
        *options,
    )

    assert answers.read_text() == "of a model"
    found = json.loads(out.read_text())
    cells, head, numerals = (found[name] for name in sorted(found))
    assert head["rec/miou"] == 1
    assert cells["rec/miou"] < 0.95 < numerals["rec/miou"] < 1
    assert cells["rec/acc@0.95"] < numerals["rec/acc@0.95"]
    assert cells["rec/tokens"] < numerals["rec/tokens"]
