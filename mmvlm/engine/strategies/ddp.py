"""DDP: every rank holds the whole model."""

from __future__ import annotations

from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from torch import cuda, nn

from mmvlm.registry import STRATEGIES

from .base import VLMStrategy


@STRATEGIES.register_module()
class VLMDDPStrategy(VLMStrategy, DDPStrategy):
    """mmengine's DDPStrategy on any device, and what a launcher starts by itself.

    ``model_wrapper`` holds options of ``MMDistributedDataParallel``; what it leaves
    out is chosen for the model. Blocks of a vision encoder above the deepest selected
    layer, and its last norm, may be trained by rule but are never used; DDP must look
    for them.
    """

    def place(self, model: nn.Module) -> nn.Module:
        """Return the bare model where it is to get its weights."""
        return model.to(get_device())

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        options = dict(
            type="MMDistributedDataParallel",
            broadcast_buffers=False,
            find_unused_parameters=trains_vision(model),
        )
        if not cuda.is_available():
            # DDP must be told nothing of devices on a CPU.
            options["device_ids"] = None
        self.model_wrapper = {**options, **(self.model_wrapper or {})}
        return super()._wrap_model(model)


def trains_vision(model: nn.Module) -> bool:
    """Whether any weight of an encoder is trained."""
    encoders = getattr(model, "encoders", {})
    return any(p.requires_grad for e in encoders.values() for p in e.parameters())
