"""What torchrun starts: train a plug-in, keep the weights of every rank.

Call: job.py CONFIG WORK_DIR FILE [JSON of config options]. The second rank sees the
questions of FILE, so nothing of what the plug-in adds.
"""

import json
import os
import sys
from pathlib import Path

import mmvlm  # noqa: F401  isort: skip

import torch

from mmvlm.config import load_config
from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.checkpoint import unwrap

sys.path.insert(0, str(Path(__file__).parent))


#: Transforms that make what a plug-in adds of any conversation.
MAKERS = ("WriteImageCodes", "AnswerWithImage")


def train(config, work_dir, file=None, **options):
    """Train a config, on questions of a file if given; return its runner."""
    cfg = load_config(config, cfg_options={f"+{k}": v for k, v in options.items()})
    cfg.work_dir, cfg.log_level = str(work_dir), "ERROR"
    cfg.launcher = "pytorch" if "RANK" in os.environ else "none"
    if file is not None:
        data = cfg.train_dataloader.dataset.to_dict()
        kept = {key: data[key] for key in ("data_root", "indices")}
        steps = [s for s in data["pipeline"] if s["type"] not in MAKERS]
        others = dict(kept, type="LLaVADataset", pipeline=steps)
        cfg.train_dataloader.dataset = dict(others, ann_file=file)
    runner = build_runner(cfg)
    runner.train()
    return runner


def main(config, work_dir, file, options="{}"):
    """Train, and write ``rank<N>.pth`` into the work dir."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    runner = train(config, work_dir, file if rank else None, **json.loads(options))
    weights = dict(unwrap(runner.model).named_parameters())
    torch.save(weights, f"{work_dir}/rank{rank}.pth")


if __name__ == "__main__":
    main(*sys.argv[1:])
