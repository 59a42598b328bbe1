"""Three stages on TinyScenes: what is tuned in one is carried into the next."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from mmvlm.config import load_config
from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.engine.runner import build_runner

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs" / "tiny"
NAME = "densefusion-clip-tiny_mlp2x_llama-tiny_"
STAGES = (
    NAME + "1xb64-300i-pt_tiny-scenes-dense",
    NAME + "1xb64-600i-ft_tiny-scenes-dense",
    NAME + "1xb96-2k-ft_tiny-scenes",
)
S2 = "llava-clip-tiny-s2_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes"


VISION = "clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes"
TEXT = "text_none_llama-tiny_1xb64-600i-pt_tiny-scenes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes, and what stands for the pretrained towers."""
    path = tmp_path_factory.mktemp("chain")
    make_tiny_scenes(path / "data", num_train=24, num_test=9)
    cfg = prepare(STAGES[2], path, seed=99)
    cfg.load_from = None
    state = build_runner(cfg).model.state_dict()
    for name, part in ((VISION, "vision_encoder"), (TEXT, "language_model")):
        (path / name).mkdir()
        content = {k: v for k, v in state.items() if k.startswith(f"{part}.")}
        torch.save(dict(state_dict=content, meta={}), path / name / "iter_1.pth")
        (path / name / "last_checkpoint").write_text("iter_1.pth")
    return path


@pytest.fixture
def place(folder, tmp_path):
    for name in ("data", VISION, TEXT):
        (tmp_path / name).symlink_to(folder / name)
    return tmp_path


def prepare(name, folder, seed, wrap_s2=False):
    """Load a tiny config for two steps of four samples below ``folder``."""
    cfg = load_config(TINY / f"{name}.py", check=False)
    cfg.tokenizer.name_or_path = str(folder / "data" / "tokenizer")
    cfg.train_dataloader.update(batch_size=4)
    cfg.train_dataloader.dataset.data_root = str(folder / "data")
    cfg.train_cfg.max_iters = 2
    cfg.base_batch_size = 4
    cfg.optim_wrapper.dtype = None
    cfg.param_scheduler = []
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.default_hooks.update(replies=None, provenance=None)
    cfg.launcher, cfg.work_dir = "none", str(folder / name)
    cfg.randomness = dict(seed=seed)
    for entry in cfg.load_from:
        if wrap_s2 and VISION in entry.path:
            entry.rename = dict(vision_encoder="vision_encoder.encoder")
        entry.path = str(folder / Path(entry.path).name)
    if wrap_s2:
        inner = cfg.model.vision_encoder.to_dict()
        cfg.model.vision_encoder = dict(
            type="S2VisionEncoder", encoder=inner, scales=(48, 96)
        )
    return cfg


def tower(runner):
    state = runner.model.vision_encoder.state_dict()
    return {key: value.clone() for key, value in state.items()}


def checkpoint(folder):
    name = (folder / "last_checkpoint").read_text().strip()
    return torch.load(folder / name, weights_only=True)["state_dict"]


@pytest.mark.parametrize("wrap_s2", [False, True], ids=["plain", "s2"])
def test_the_tuned_tower_is_carried_and_frozen_again(place, wrap_s2):
    towers, connectors, cfgs = [], [], []
    for seed, name in enumerate(STAGES):
        cfgs.append(prepare(name, place, seed, wrap_s2))
        runner = build_runner(cfgs[-1])
        runner.train()
        towers.append(tower(runner))
        connectors.append(runner.model.connector.state_dict())

    sources = [[Path(e.path).name for e in cfg.load_from] for cfg in cfgs]
    assert sources == [[VISION, TEXT], [VISION, TEXT, STAGES[0]], [STAGES[1]]]
    start, tuned, last = towers
    pretrained = checkpoint(place / VISION)
    prefix = "vision_" if wrap_s2 else "vision_encoder."  # the wrapper has encoder.*
    assert all(torch.equal(pretrained[prefix + k], v) for k, v in start.items())
    changed = {key for key in start if not torch.equal(start[key], tuned[key])}
    # Block 3 is trained by the rule, but layer -2 does not see it.
    assert changed and all(".layers.2." in key for key in changed)
    short = {key.split(".layers.2.")[1] for key in changed}
    assert short >= {"self_attn.q_proj.weight", "mlp.fc2.bias", "layer_norm1.weight"}
    assert all(torch.equal(tuned[key], last[key]) for key in tuned)
    assert not any(p.requires_grad for p in runner.model.vision_encoder.parameters())
    for before, after in pairwise(connectors):
        far = max((before[k] - after[k]).abs().max() for k in before)
        assert 0 < far < 0.05  # two steps away, not another draw
    held = [{key.split(".")[0] for key in checkpoint(place / n)} for n in STAGES]
    parts = {"vision_encoder", "connector", "language_model"}
    assert held == [{"connector"}, parts, parts]


def test_s2_starts_from_the_plain_tower(place):
    runner = build_runner(prepare(S2, place, seed=7))
    runner.train()

    pretrained = checkpoint(place / VISION)
    assert runner.model.vision_spec.width == 256
    for key, value in tower(runner).items():
        assert torch.equal(pretrained["vision_" + key], value), key
