"""DDP as a strategy: every rank holds the whole model."""

from __future__ import annotations

from typing import Any

import torch
from mmengine._strategy import DDPStrategy
from torch import nn

from mmvlm.registry import STRATEGIES

from ..runner.state import PlainStateIO


@STRATEGIES.register_module()
class VLMDDPStrategy(DDPStrategy):
    """mmengine's DDPStrategy on any device.

    Args:
        model_wrapper (dict | None): of ``MMDistributedDataParallel``;
            ``find_unused_parameters=True`` where a part is trained but not used in
            every batch.
        **kwargs: see mmengine.

    """

    #: Weights are gathered when a part runs.
    shards_weights = False

    def __init__(self, *, model_wrapper: dict | None = None, **kwargs: Any) -> None:
        model_wrapper = dict(model_wrapper or {})
        model_wrapper.setdefault("type", "MMDistributedDataParallel")
        model_wrapper.setdefault("broadcast_buffers", False)
        if not torch.cuda.is_available():
            # DDP must be told nothing of devices on a CPU.
            model_wrapper.setdefault("device_ids", None)
        super().__init__(model_wrapper=model_wrapper, **kwargs)

    def state_io(self, model: nn.Module, optim_wrapper: Any) -> PlainStateIO:
        """Return what reads and writes weights and optimizer state."""
        return PlainStateIO(model, optim_wrapper)
