"""What torchrun starts: train a plug-in, keep the weights of every rank.

Call: job.py CONFIG WORK_DIR FILE OPTIONS. If FILE is given, the second rank sees its
questions, so nothing of what the plug-in adds. OPTIONS is JSON, over the config.
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


def train(config, work_dir, file="", **options):
    """Train a config, on questions of a file if given; return its runner."""
    runner = build(config, work_dir, file, **options)
    runner.train()
    return runner


def build(config, work_dir, file="", **options):
    """Return the runner of a config; see :func:`train`."""
    cfg = load_config(config, cfg_options={f"+{k}": v for k, v in options.items()})
    cfg.work_dir, cfg.log_level = str(work_dir), "ERROR"
    cfg.launcher = "pytorch" if "RANK" in os.environ else "none"
    if file:
        data = cfg.train_dataloader.dataset.to_dict()
        kept = {key: data[key] for key in ("data_root", "indices")}
        steps = [s for s in data["pipeline"] if s["type"] not in MAKERS]
        others = dict(kept, type="LLaVADataset", pipeline=steps)
        cfg.train_dataloader.dataset = dict(others, ann_file=file)
    return build_runner(cfg)


def weights_of(runner):
    """Return a copy of all weights by name."""
    named = unwrap(runner.model).named_parameters()
    return {name: weight.detach().clone() for name, weight in named}


def main(config, work_dir, file, options):
    """Train, and write ``rank<N>.pth`` into the work dir."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    runner = train(config, work_dir, file if rank else "", **json.loads(options))
    torch.save(weights_of(runner), f"{work_dir}/rank{rank}.pth")


if __name__ == "__main__":
    main(*sys.argv[1:])
