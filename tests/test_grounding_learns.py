"""Tiny grounding systems learn to look: their own pictures serve them, others do not.

Each trains some steps of its own config on TinyScenes with one shape per picture and
answers about held-out scenes twice, with the right picture and with that of another
question. The configs are made smaller in the open: chains of earlier trainings are cut,
so that all parts start from random weights and learn, and pictures have fewer patches.
What whole runs reach stands in docs/en/benchmarks/grounding_in_the_small.md; Kosmos-2
and Qwen-VL are left to it, whose resamplers learn nothing of places in a minute.
"""

import json
import runpy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes

ROOT = Path(__file__).parents[1]
FORMATS = ("llava", "refcoco", "ferret_grit", "ade20k", "reason_seg")
NUM_TRAIN, NUM_TEST = 1500, 200
pytestmark = pytest.mark.slow

CONFIG = """
_base_ = ["{base}"]
load_from = None
train_cfg = dict(max_iters={steps})
base_batch_size = {batch}
train_dataloader = dict(
    batch_size={batch}, num_workers=0, persistent_workers=False, dataset=dict()
)
test_dataloader = dict(dataset=dict(shuffle_images=False))
"""
#: A tower that learns too, of one layer that is read, with a patch per quarter.
TOWER = """
tower = dict(config=dict(num_hidden_layers=2, patch_size=24))
model = dict(vision_encoder=tower, train_parts=dict(vision_encoder=True))
"""
ADAPTED_TOWER = TOWER.replace("=tower,", "=dict(vision_encoder=tower),")
LEARNT_TOWER = "model = dict(train_parts=dict(vision_encoder=True))"
#: The box of one thing would be copied from round to round.
BOXES = """
train_dataloader["dataset"]["task"] = dict(max_rounds=1)
test_dataloader["dataset"]["indices"] = 200
"""


def box_score(row):
    return row.get("iou") or 0.0


def name_score(row):
    """Share of colour and shape that are right."""
    said = row["pred"].strip(".").split()
    return np.mean([word in said for word in row["gt"].strip(".").split()[1:]])


def mask_score(row):
    ((both, either),) = row["overlaps"]
    return both / either


@dataclass(frozen=True)
class System:
    """How a config is made small.

    Attributes:
        base (str): pattern of the name of the config in configs/tiny.
        score (Callable): of a row of ``out_file``, 0 to 1.
        steps (int): of training.
        batch (int): of training.
        extra (str): of the config that inherits it.
    """

    base: str
    score: object
    steps: int
    batch: int
    extra: str = ""


SYSTEMS = dict(
    shikra=System("shikra-*", box_score, 800, 24, TOWER + BOXES),
    pink=System("pink-*", box_score, 800, 24, ADAPTED_TOWER + BOXES),
    ferret=System("ferret-*", name_score, 150, 16),
    gpt4roi=System("gpt4roi-*", name_score, 200, 16, LEARNT_TOWER),
    lisa=System(
        "lisa-*",
        mask_score,
        100,
        12,
        """
model = dict(train_parts=dict(vision_encoder=True, sam=True))
test_dataloader["dataset"] = dict(
    _base_.test_dataloader.dataset.datasets[0], _delete_=True, indices=200
)
""",
    ),
)


def tool(name, *arguments):
    arguments = list(map(str, arguments))
    result = runpy.run_path(str(ROOT / "tools" / name))["main"](arguments)
    assert not isinstance(result, str), result  # the text of an error


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with scenes of one shape where all configs expect their data."""
    return make_workspace(tmp_path_factory.mktemp("learns"))


def make_workspace(folder):
    data = folder / "data"
    make_tiny_scenes(
        data / "tiny_scenes",
        num_train=NUM_TRAIN,
        num_test=NUM_TEST,
        formats=FORMATS,
        style="single",
    )
    (data / "tiny_scenes_tangled").symlink_to("tiny_scenes")
    return folder


def train(name, workspace, seed=0):
    """Train a system and return its work dir."""
    one, work = SYSTEMS[name], workspace / f"{name}-{seed}"
    (base,) = (ROOT / "configs" / "tiny").glob(f"{one.base}.py")
    options = dict(base=base, steps=one.steps, batch=one.batch)
    text = CONFIG.format(**options) + one.extra
    path = workspace / f"{name}.py"
    path.write_text(text)
    tool("train.py", path, "--work-dir", work, "--seed", seed)
    return work


def scores(name, work, *, blind):
    """Return the score of every question, by its id."""
    out = work / f"blind-{blind}.jsonl"
    options = [f"test_evaluator.out_file={out}"]
    options += [f"test_dataloader.dataset.shuffle_images={blind}"]
    where = ("--work-dir", work / "test")
    tool("test.py", work, *where, "--cfg-options", *options)
    rows = map(json.loads, out.read_text().splitlines())
    return {row["sample_id"]: float(SYSTEMS[name].score(row)) for row in rows}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_learns_to_look(name, workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    work = train(name, workspace)

    own, other = (scores(name, work, blind=blind) for blind in (False, True))

    assert own.keys() == other.keys() and len(own) >= 100
    gains = np.array([own[key] - other[key] for key in own])
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    assert gains.mean() > max(0.1, 5 * error)
