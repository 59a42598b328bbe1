"""DDP as a strategy: every rank holds the whole model."""

from __future__ import annotations

from typing import Any

from mmengine._strategy import DDPStrategy
from torch import nn

from mmvlm.registry import STRATEGIES

from ..runner.setup import ddp_options
from ..runner.state import PlainStateIO


@STRATEGIES.register_module()
class VLMDDPStrategy(DDPStrategy):
    """mmengine's DDPStrategy on any device.

    ``model_wrapper`` holds options of ``MMDistributedDataParallel``; what it leaves
    out is chosen for the model (see :func:`ddp_options`).
    """

    #: Weights are gathered when a part runs.
    shards_weights = False

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        self.model_wrapper = ddp_options(model, self.model_wrapper)
        return super()._wrap_model(model)

    def state_io(self, model: nn.Module, optim_wrapper: Any) -> PlainStateIO:
        """Return what reads and writes weights and optimizer state."""
        return PlainStateIO(model, optim_wrapper)
