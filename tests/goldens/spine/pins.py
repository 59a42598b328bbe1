"""What the pins of this folder are made of; the test measures in the same way."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from pathlib import Path
from typing import Any

import torch

from mmvlm.apis import VLMInferencer
from mmvlm.config import load_config
from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.engine.hooks.progress_hook import read_scalars
from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.checkpoint import load_file, resolve_checkpoint
from mmvlm.registry import SCENE_WRITERS

HERE = Path(__file__).resolve().parent
TINY = HERE.parents[2] / "configs" / "tiny"
#: Where data is written and runs are made: the configs' own relative paths.
DATA = Path("data") / "tiny_scenes"
STEPS = 5
#: Model with a checkpoint of its own in this folder, and where it was saved.
MODEL = HERE / "model.py"
SAVED = 200
QUESTIONS = (
    "How many objects are there?",
    "What colour is the object at the top left?",
    "What is at the top left?",
    "Describe the image.",
)


def machine() -> str:
    """Name what sums of floats depend on."""
    facts = [platform.processor()]
    if (info := Path("/proc/cpuinfo")).exists():
        # The model name alone is that of many processors on rented machines.
        wanted = r"(model name|cpu family|model|stepping|cache size|flags)\s*: (.*)"
        lines = dict(re.findall(wanted, info.read_text()))
        flags = hashlib.sha256(lines.pop("flags", "").encode()).hexdigest()[:12]
        facts = [*lines.values(), f"flags {flags}"]
    capability = torch.backends.cpu.get_cpu_capability()
    return ", ".join([*facts, capability, f"torch {torch.__version__}"])


def write_data(folder: Path) -> None:
    """Write TinyScenes in every format into ``folder / DATA``."""
    SCENE_WRITERS.import_from_location()
    make_tiny_scenes(
        str(folder / DATA),
        num_train=120,
        num_test=36,
        seed=0,
        formats=tuple(SCENE_WRITERS.module_dict),
    )


def pinned_config(path: Path, work_dir: Path, steps: int) -> Any:
    """Load a config for a short run in float32 from the weights of its seed."""
    cfg = load_config(str(path), check=False)
    cfg.work_dir = str(work_dir)
    cfg.train_cfg.max_iters = steps
    cfg.train_dataloader.update(batch_size=6, num_workers=0)
    cfg.train_dataloader.pop("persistent_workers", None)
    cfg.optim_wrapper.dtype = None
    # The rates are chosen for larger batches; nothing here is to become good.
    cfg.base_batch_size = 6
    cfg.load_from = None
    cfg.default_hooks = dict(
        logger=dict(type="ProgressHook", interval=1),
        checkpoint=dict(type="VLMCheckpointHook", interval=steps, max_keep=9),
        replies=None,
    )
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    for key in ("dataloader", "cfg", "evaluator"):
        cfg[f"test_{key}"] = None
    return cfg


def digests(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Describe weights: one hash of all bits, two sums of every part."""
    whole, parts = hashlib.sha256(), {}
    for name in sorted(state):
        value = state[name].detach().contiguous()
        whole.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        whole.update(value.flatten().view(torch.uint8).numpy().tobytes())
        flat = value.double().flatten()
        waves = torch.arange(flat.numel(), dtype=torch.float64).cos()
        sums = parts.setdefault(name.partition(".")[0], [0.0, 0.0])
        sums[0] += float(flat.abs().sum())
        sums[1] += float((flat * waves).sum())
    return dict(bits=whole.hexdigest(), parts=parts)


def train(cfg: Any) -> dict[str, Any]:
    """Run a config in this process; give losses and digests of its last weights."""
    torch.set_num_threads(1)
    build_runner(cfg).train()
    rows = read_scalars(cfg.work_dir)
    losses = [row["loss"] for row in rows if "loss" in row][-STEPS:]
    state = load_file(resolve_checkpoint(cfg.work_dir))["state_dict"]
    return dict(losses=losses, **digests(state))


def measure(path: Path, work_dir: Path) -> dict[str, Any]:
    """Run the first steps of a config."""
    return train(pinned_config(path, work_dir, STEPS))


def train_model(work_dir: Path, resume: bool) -> dict[str, Any]:
    """Train the model of this folder, or go on with it from its checkpoint."""
    cfg = pinned_config(MODEL, work_dir, SAVED + STEPS)
    cfg.train_dataloader.batch_size = cfg.base_batch_size = 24
    cfg.default_hooks.checkpoint.interval = SAVED
    if resume:
        cfg.resume = str(HERE / "model")
    return train(cfg)


def replies() -> list[dict[str, Any]]:
    """Ask the model of this folder about two pictures, four questions each."""
    torch.set_num_threads(1)
    talk = VLMInferencer(MODEL, HERE / "model", device="cpu", dtype=torch.float32)
    records = json.loads((DATA / "test.json").read_text(encoding="utf-8"))
    images = sorted({record["image"] for record in records})[:2]
    return [
        dict(image=image, question=question, text=talk.chat(DATA / image, question))
        for image in images
        for question in QUESTIONS
    ]
