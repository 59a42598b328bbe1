"""What every strategy of ours adds to mmengine's: its launch, its checkpoints."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from ..runner.state import PlainStateIO


class VLMStrategy:
    """Stands before a strategy of mmengine among the bases of a class."""

    #: Weights are gathered when a part runs.
    shards_weights = False
    #: The strategy steps on float32 copies of what it trains.
    keeps_masters = False
    #: One process without a launcher is a process group as well.
    groups_one_process = True

    def _setup_env(
        self, *, launcher: str, dist_cfg: dict | None = None, **kwargs: Any
    ) -> None:
        """Start processes also without a GPU, then as mmengine."""
        dist_cfg = dict(dist_cfg or {})
        backend = dist_cfg.get("backend", "nccl")
        dist_cfg["backend"] = backend if torch.cuda.is_available() else "gloo"
        init_process_group(launcher, dist_cfg["backend"], self.groups_one_process)
        super()._setup_env(launcher=launcher, dist_cfg=dist_cfg, **kwargs)

    def place(self, model: nn.Module) -> nn.Module:
        """Return the bare model where it is to get its weights."""
        return model

    def state_io(self, model: nn.Module, optim_wrapper: Any) -> Any:
        """Return what reads and writes weights and optimizer state."""
        return PlainStateIO(model, optim_wrapper)


def init_process_group(
    launcher: str | None, backend: str | None = None, alone: bool = False
) -> None:
    """Start gloo on machines without a GPU; mmengine starts NCCL elsewhere.

    mmengine's own start-up calls CUDA functions that a CPU build lacks.

    Args:
        launcher (str | None): ``none``, ``pytorch`` or ``slurm``.
        backend (str | None): the config's; ``gloo`` also works beside a GPU.
        alone (bool): without a launcher start a group of this process, as
            strategies need one.
    """
    if torch.distributed.is_initialized():
        return
    if launcher in (None, "none"):
        if alone:
            os.environ.setdefault("LOCAL_RANK", "0")
            torch.distributed.init_process_group(
                backend or "gloo",
                store=torch.distributed.HashStore(),
                rank=0,
                world_size=1,
            )
        return
    if torch.cuda.is_available() and backend != "gloo":
        return
    if launcher == "slurm":
        _slurm_environment()
    missing = [k for k in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if k not in os.environ]
    if missing:
        raise RuntimeError(
            f"launcher='{launcher}' without {missing} in the environment; start with "
            "tools/dist_train.sh CONFIG NPROC or tools/slurm_train.sh."
        )
    torch.distributed.init_process_group("gloo")


def _slurm_environment() -> None:
    """Translate slurm's variables into torch's."""
    nodes = os.environ["SLURM_NODELIST"]
    names = dict(
        RANK="SLURM_PROCID", LOCAL_RANK="SLURM_LOCALID", WORLD_SIZE="SLURM_NTASKS"
    )
    for ours, slurm in names.items():
        os.environ.setdefault(ours, os.environ[slurm])
    os.environ.setdefault("MASTER_PORT", "29500")
    if "MASTER_ADDR" not in os.environ:
        import subprocess

        shown = subprocess.run(
            ["scontrol", "show", "hostname", nodes],
            capture_output=True,
            text=True,
            check=True,
        )
        os.environ["MASTER_ADDR"] = shown.stdout.split()[0]
