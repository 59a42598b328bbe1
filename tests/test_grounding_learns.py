"""Tiny grounding systems learn to look: their own images serve them, others do not.

Each trains some steps of its own config on TinyScenes with one shape per image and
answers about held-out scenes twice, with the right image and with that of another
question. The configs are made smaller in the open: of the chains of earlier trainings
the contrastive one of the tower is left, and short; the rest starts from nothing.
Kosmos-2 and Qwen-VL, whose resamplers learn nothing of places in a minute, name what is
in a box; the others find it, name it or give its mask. What whole runs reach stands in
docs/en/benchmarks/grounding_in_the_small.md.
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
load_from = {load_from}
train_cfg = dict(max_iters={steps})
base_batch_size = {batch}
train_dataloader = dict(
    batch_size={batch}, num_workers=0, persistent_workers=False, dataset=dict()
)
test_dataloader = dict(dataset=dict(shuffle_images=False))
"""
TOWER = "work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes"
PRETRAINING = """
train_cfg = dict(max_iters=150)
base_batch_size = 48
train_dataloader = dict(batch_size=48, num_workers=0, persistent_workers=False)
"""
#: The box of one thing would be copied from round to round.
BOXES = """
train_dataloader["dataset"]["task"] = dict(max_rounds=1)
test_dataloader["dataset"]["indices"] = 200
"""
NAMES = """
one = dict(_base_.generation, _delete_=True)
train_dataloader["dataset"]["task"] = dict(_delete_=True, **_base_.generation)
test_dataloader["dataset"].update(task=one, indices=200)
test_evaluator = dict(_delete_=True, type="ExactMatchMetric", out_file=None)
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
        tower (bool): whether its tower starts from the pretrained one.
    """

    base: str
    score: object
    steps: int
    batch: int
    extra: str = ""
    tower: bool = True


SYSTEMS = dict(
    shikra=System("shikra-*", box_score, 300, 24, BOXES),
    pink=System("pink-*", box_score, 300, 24, BOXES),
    kosmos2=System("kosmos2-*", name_score, 120, 24, NAMES),
    qwen_vl=System("qwen-vl-*-referring", name_score, 120, 24, NAMES),
    ferret=System("ferret-*", name_score, 150, 16, tower=False),
    gpt4roi=System("gpt4roi-*", name_score, 120, 16),
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
        tower=False,
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
    path = folder / "tower.py"
    (base,) = (ROOT / "configs" / "tiny").glob(f"{Path(TOWER).name}.py")
    path.write_text(f'_base_ = ["{base}"]\n{PRETRAINING}')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tool("train.py", path, "--work-dir", TOWER)
    return folder


def train(name, workspace, seed=0):
    """Train a system and return its work dir."""
    one, work = SYSTEMS[name], workspace / f"{name}-{seed}"
    (base,) = (ROOT / "configs" / "tiny").glob(f"{one.base}.py")
    load_from = [dict(path=TOWER, parts=["vision_encoder"])] if one.tower else None
    options = dict(base=base, steps=one.steps, batch=one.batch, load_from=load_from)
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
