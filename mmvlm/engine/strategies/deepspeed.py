"""DeepSpeed ZeRO 1-3 behind the same loop, wrapper and checkpoint format."""

from __future__ import annotations

from typing import Any

import torch
from mmengine._strategy import DeepSpeedStrategy
from mmengine._strategy import deepspeed as mmengine_deepspeed
from mmengine._strategy.deepspeed import DeepSpeedOptimWrapper
from mmengine.device import get_device
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS as ROOT_OPTIMIZERS
from torch import nn

from mmvlm.registry import OPTIM_WRAPPERS, STRATEGIES
from mmvlm.utils.precision import exact_buffers

from ..optimizers.optim_wrapper import StepCallbacks, precision
from .base import VLMStrategy


@OPTIM_WRAPPERS.register_module()
class VLMDeepSpeedOptimWrapper(DeepSpeedOptimWrapper):
    """The optimizer wrapper of :class:`VLMDeepSpeedStrategy`.

    DeepSpeed clips, scales and divides by the accumulation itself; the train loop
    takes that division out of the loss's denominator.

    Args:
        optimizer (torch.optim.Optimizer): over trainable parameters.
        accumulative_counts (int): micro-batches per optimizer step.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, accumulative_counts: int = 1
    ) -> None:
        super().__init__(optimizer)
        self.accumulative_counts = accumulative_counts
        self.callbacks = StepCallbacks()
        self.grad_norm: torch.Tensor | None = None
        #: Weights are cast by the engine, so nothing autocasts.
        self.dtype = None
        self.begin_step(accumulative_counts)

    @property
    def loss_divisor(self) -> int:
        """What DeepSpeed divides every loss by."""
        return self.accumulative_counts

    def begin_step(self, num_micro: int, loss_scale: float = 1.0) -> None:
        """Announce an optimizer step, see :class:`VLMOptimWrapper`."""
        self._num_micro, self._loss_scale = num_micro, loss_scale
        self._losses: list[torch.Tensor] = []

    def update_params(self, loss: torch.Tensor) -> None:
        """Run backward; after the last micro-batch also step."""
        if self._loss_scale != 1.0:
            loss = loss * self._loss_scale
        self._losses.append(loss.detach())
        is_last = len(self._losses) == self._num_micro
        # The last step of a run may have fewer micro-batches than the others.
        self.model.set_gradient_accumulation_boundary(is_last)
        if is_last:
            self.callbacks.losses_ready(self._losses)
        self.backward(loss)
        if is_last:
            self.callbacks.before_step()
        self.step()
        if is_last:
            self.grad_norm = _as_tensor(self.model.get_global_grad_norm())
            self.begin_step(self._num_micro, self._loss_scale)


def _as_tensor(value: Any) -> torch.Tensor | None:
    return None if value is None else torch.as_tensor(value)


_register_optimizers = mmengine_deepspeed.register_deepspeed_optimizers


def _register_optimizers_once() -> list[str]:
    """Register DeepSpeed's optimizers; mmengine fails at a second strategy."""
    if "DeepSpeedCPUAdam" in ROOT_OPTIMIZERS.module_dict:
        return []
    return _register_optimizers()


@STRATEGIES.register_module()
class VLMDeepSpeedStrategy(VLMStrategy, DeepSpeedStrategy):
    """mmengine's DeepSpeedStrategy, on any device and with whole checkpoints.

    It takes the same ``optim_wrapper`` as the other strategies: accumulation,
    ``clip_grad`` and ``dtype`` become DeepSpeed's settings.

    Args:
        zero_optimization (dict): ``stage`` and DeepSpeed's other keys.
        **kwargs: see mmengine.

    Raises:
        ImportError: when DeepSpeed is not installed.
    """

    keeps_masters = True  # whatever the dtype of the weights

    def __init__(self, *, zero_optimization: dict | None = None, **kwargs: Any) -> None:
        try:
            import deepspeed
        except ImportError as error:
            raise ImportError(
                "strategy.type='VLMDeepSpeedStrategy' needs the package deepspeed. "
                "Run: pip install -r requirements/optional.txt, or use "
                "configs/_base_/strategies/fsdp.py."
            ) from error
        mmengine_deepspeed.register_deepspeed_optimizers = _register_optimizers_once
        kwargs.setdefault("train_micro_batch_size_per_gpu", 1)
        super().__init__(zero_optimization=dict(zero_optimization or {}), **kwargs)
        if not torch.cuda.is_available():
            # An operator for inference, compiled for minutes at the first launch.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # Any torch optimizer works; DeepSpeed only warns of those it never tried.
        self.config.setdefault("zero_allow_untested_optimizer", True)
        self._group_names: list[list[str]] = []

    @property
    def stage(self) -> int:
        """ZeRO stage."""
        return int(self.config["zero_optimization"].get("stage", 0))

    @property
    def shards_weights(self) -> bool:
        """Whether weights are gathered when a part runs: stage 3 does."""
        return self.stage == 3

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: nn.Module | None = None
    ) -> Any:
        """Translate the config's wrapper into DeepSpeed's settings and build it.

        Raises:
            ValueError: for a clipping that DeepSpeed does not know.
        """
        if not isinstance(optim_wrapper, dict):
            return super().build_optim_wrapper(optim_wrapper, model)
        cfg = dict(optim_wrapper)
        count = int(cfg.pop("accumulative_counts", 1))
        clip = dict(cfg.pop("clip_grad", None) or {})
        dtype = precision(cfg.pop("dtype", None))
        self.config["gradient_accumulation_steps"] = count
        if clip:
            if set(clip) - {"max_norm", "norm_type"} or clip.get("norm_type", 2) != 2:
                raise ValueError(
                    f"optim_wrapper.clip_grad={clip}: DeepSpeed clips the 2-norm only, "
                    "as in dict(max_norm=1.0)."
                )
            self.config["gradient_clipping"] = float(clip["max_norm"])
        if dtype is torch.bfloat16:
            self.config.setdefault("bf16", dict(enabled=True))
        elif dtype is torch.float16:
            self.config.setdefault("fp16", dict(enabled=True))
        cfg.update(type="VLMDeepSpeedOptimWrapper", accumulative_counts=count)
        built = build_optim_wrapper(model, cfg)
        names = {id(param): name for name, param in model.named_parameters()}
        self._group_names = [
            [names[id(param)] for param in group["params"]]
            for group in built.optimizer.param_groups
        ]
        return built

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):
                module.to(get_device())
        with exact_buffers(model):  # it narrows all of a model
            return super()._wrap_model(model)

    def state_io(self, model: Any, optim_wrapper: Any) -> Any:
        """Return what reads and writes weights and optimizer state."""
        from .deepspeed_state import DeepSpeedStateIO

        return DeepSpeedStateIO(model, optim_wrapper, self._group_names, self.stage)
