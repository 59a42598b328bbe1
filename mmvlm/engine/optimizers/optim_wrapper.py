"""Optimizer wrapper: precision, accumulation and clipping of one optimizer step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper

from mmvlm.registry import OPTIM_WRAPPERS
from mmvlm.utils.precision import emulates_bfloat16

#: Names that a config may give; None trains in the parameters' own precision.
PRECISIONS = {
    None: None,
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
AUTO = "auto"


def precision_here(name: str | None) -> str | None:
    """Name what ``auto`` stands for: bfloat16, and none where it would be emulated."""
    return (None if emulates_bfloat16() else "bfloat16") if name == AUTO else name


def precision(name: str | None) -> torch.dtype | None:
    """Return the autocast dtype of a precision's name.

    Raises:
        ValueError: for an unknown name.
    """
    if (known := precision_here(name)) not in list(PRECISIONS):
        raise ValueError(
            f"optim_wrapper.dtype={name!r}: expected one of {[*PRECISIONS, AUTO]}."
        )
    return PRECISIONS[known]


def wrapper_dtype(optim_wrapper: Any) -> torch.dtype | None:
    """Return in which dtype steps are computed, from a wrapper or its config."""
    if isinstance(optim_wrapper, dict):
        return precision(optim_wrapper.get("dtype"))
    dtype = getattr(optim_wrapper, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else None


def autocast(dtype: torch.dtype | None) -> Any:
    """Return a context that computes in ``dtype`` on the run's device."""
    if dtype is None:
        return nullcontext()
    return torch.autocast(get_device().split(":")[0], dtype)


class StepCallbacks:
    """What the train loop plugs into an optimizer wrapper.

    Args:
        losses_ready (Callable | None): called with the losses of all micro-batches
            of the step, before the last backward.
        before_step (Callable | None): called after the last backward; raising here
            keeps the weights untouched.
    """

    def __init__(
        self,
        losses_ready: Callable[[list[torch.Tensor]], None] | None = None,
        before_step: Callable[[], None] | None = None,
    ) -> None:
        self.losses_ready = losses_ready or (lambda losses: None)
        self.before_step = before_step or (lambda: None)


@OPTIM_WRAPPERS.register_module()
class VLMOptimWrapper(OptimWrapper):
    """One optimizer step of several micro-batches, without rescaling of losses.

    The loss of a micro-batch already carries the denominator of the whole step
    (see :class:`VLMTrainLoop`), so nothing is divided by ``accumulative_counts``
    here. Without a train loop, every ``accumulative_counts``-th call steps.

    Args:
        optimizer (torch.optim.Optimizer): over trainable parameters.
        accumulative_counts (int): micro-batches per optimizer step.
        clip_grad (dict | None): arguments of ``torch.nn.utils.clip_grad_norm_``.
        dtype (str | None): ``bfloat16`` or ``float16`` autocast; None for none;
            ``auto`` for bfloat16 where the device has instructions for it. A gradient
            scaler serves ``float16``, which needs a GPU.

    Raises:
        ValueError: for an unknown dtype, or ``float16`` without a GPU.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            optimizer,
            accumulative_counts=accumulative_counts,
            clip_grad=dict(clip_grad) if clip_grad else None,
        )
        self.dtype = precision(dtype)
        if self.dtype is torch.float16 and not torch.cuda.is_available():
            raise ValueError(
                "optim_wrapper.dtype='float16' needs a GPU for its gradient scaler; "
                "use 'bfloat16' or None on a CPU."
            )
        if dtype == AUTO:
            chosen = precision_here(dtype) or "float32"
            print_log(f"optim_wrapper.dtype='auto': {chosen} here.", "current")
        elif self.dtype is torch.bfloat16 and emulates_bfloat16():
            print_log(
                "this processor emulates bfloat16, which takes several times as long "
                "as float32; train with --cfg-options optim_wrapper.dtype=auto.",
                "current",
                logging.WARNING,
            )
        self.scaler = None
        if self.dtype is torch.float16:
            self.scaler = torch.amp.GradScaler("cuda")
        self.callbacks = StepCallbacks()
        #: Gradient norm of the last step before clipping, a tensor; None if unknown.
        self.grad_norm: torch.Tensor | None = None
        self._losses: list[torch.Tensor] = []
        self._num_micro = accumulative_counts
        self._loss_scale = 1.0

    @property
    def accumulative_counts(self) -> int:
        """Micro-batches of a full optimizer step."""
        return self._accumulative_counts

    #: The gradient is the sum over micro-batches of what they return.
    loss_divisor = 1

    def begin_step(self, num_micro: int, loss_scale: float = 1.0) -> None:
        """Announce an optimizer step.

        Args:
            num_micro (int): its micro-batches (the last step may have fewer).
            loss_scale (float): factor of every loss; 1 / num_micro for models
                that average instead of dividing by the step's denominator.
        """
        self._num_micro, self._loss_scale = num_micro, loss_scale
        self._inner_count = 0
        self._losses = []

    def initialize_count_status(self, model, init_counts, max_counts) -> None:
        """Start at a full step; loops count optimizer steps, not micro-batches."""
        self.begin_step(self._accumulative_counts)

    def should_sync(self) -> bool:
        """Whether the coming backward is the last of its step."""
        return self._inner_count + 1 >= self._num_micro

    def should_update(self) -> bool:
        """Whether the last backward was the last of its step."""
        return self._inner_count >= self._num_micro

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Apply the step's factor, 1 for token-normalised losses."""
        return loss if self._loss_scale == 1.0 else loss * self._loss_scale

    def update_params(
        self,
        loss: torch.Tensor,
        step_kwargs: dict | None = None,
        zero_kwargs: dict | None = None,
    ) -> None:
        """Run backward; after the last micro-batch also step and clear."""
        loss = self.scale_loss(loss)
        self._losses.append(loss.detach())
        if self.should_sync():
            self.callbacks.losses_ready(self._losses)
        self.backward(loss)
        if self.should_update():
            self.callbacks.before_step()
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))
            self.begin_step(self._num_micro, self._loss_scale)

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Run backward, scaled for ``float16``."""
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        super().backward(loss, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip and step; a ``float16`` step with overflow is skipped."""
        if self.scaler is None:
            super().step(**kwargs)
            return
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def zero_grad(self, **kwargs: Any) -> None:
        """Free the gradients."""
        kwargs.setdefault("set_to_none", True)
        super().zero_grad(**kwargs)

    def _clip_grad(self) -> None:
        # The parent logs the norm at once, which waits for the device.
        params = [
            p
            for group in self.optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        if params:
            norm = self.clip_func(params, **self.clip_grad_kwargs)
            if hasattr(norm, "full_tensor"):  # of gradients spread over ranks
                norm = norm.full_tensor()
            self.grad_norm = None if norm is None else norm.detach()

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Autocast, and no gradient exchange before the step's last backward."""
        with super().optim_context(model), autocast(self.dtype):
            yield

    def state_dict(self) -> dict:
        """Return the optimizer's state, with the scaler's if there is one."""
        state = super().state_dict()
        if self.scaler is not None:
            state["loss_scaler"] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        state_dict = dict(state_dict)
        scaler = state_dict.pop("loss_scaler", None)
        if scaler is not None and self.scaler is not None:
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)
