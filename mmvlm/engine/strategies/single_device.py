"""One device, one process: the strategy of configs that name none."""

from __future__ import annotations

from mmengine._strategy import SingleDeviceStrategy
from mmengine.device import get_device
from torch import nn

from mmvlm.registry import STRATEGIES

from .base import VLMStrategy


@STRATEGIES.register_module()
class VLMSingleDeviceStrategy(VLMStrategy, SingleDeviceStrategy):
    """mmengine's SingleDeviceStrategy; the model gets its weights on its device."""

    groups_one_process = False

    def place(self, model: nn.Module) -> nn.Module:
        """Return the bare model where it is to get its weights."""
        return model.to(get_device())
