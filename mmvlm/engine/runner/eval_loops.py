"""Validation and test: precision by config, ranks without a sample stay in step."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.runner import TestLoop, ValLoop
from torch.distributed.fsdp import FSDPModule

from mmvlm.registry import LOOPS
from mmvlm.utils import signals
from mmvlm.utils.dist import gather_integers

from ..optimizers.float32_weights import HALF
from ..optimizers.optim_wrapper import autocast, precision, wrapper_dtype


def is_empty(batch: Any) -> bool:
    """Whether a batch holds no sample to score (all bad, or none for this rank)."""
    return isinstance(batch, dict) and not batch.get("data_samples")


def predict(step: Any, batch: Any, dtype: torch.dtype | None) -> list:
    """Return the model's outputs for a batch, none for an empty one.

    An empty batch still goes through the model: its weights may be spread over
    ranks, which must all take part.

    Args:
        step (Callable): ``val_step`` or ``test_step`` of the model.
        batch (dict): from the collate function.
        dtype (torch.dtype | None): autocast.
    """
    empty = is_empty(batch)
    if empty:
        batch = dict(batch, data_samples=None)
    with autocast(dtype):
        outputs = step(batch)
    return [] if empty else outputs


def validation_dtype(runner: Any, chosen: torch.dtype | None) -> torch.dtype | None:
    """Return the autocast dtype of a validation, also one in the midst of training.

    While a model trains, frozen layers in half precision stand beside trained ones
    in float32; only the autocast that training uses lets them meet.
    """
    training = wrapper_dtype(runner.optim_wrapper)
    if chosen is not None or training is None or isinstance(runner.optim_wrapper, dict):
        return chosen
    mixed = isinstance(runner.model, FSDPModule)  # gathers in half precision
    mixed = mixed or any(p.dtype in HALF for p in runner.model.parameters())
    return training if mixed else None


@LOOPS.register_module()
class VLMValLoop(ValLoop):
    """mmengine's validation loop for our batches.

    Args:
        runner, dataloader, evaluator: see mmengine.
        dtype (str | None): ``bfloat16`` or ``float16`` autocast; None for none, or
            for that of the training around it if the model has half-precision
            weights.
    """

    def __init__(
        self, runner: Any, dataloader: Any, evaluator: Any, dtype: str | None = None
    ) -> None:
        super().__init__(runner, dataloader, evaluator)
        self.dtype = precision(dtype)

    def run(self) -> dict:
        """Validate; returns the metrics."""
        self._autocast = validation_dtype(self.runner, self.dtype)
        return super().run()

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Predict and score one batch.

        Raises:
            Stopped: on every rank, when one noted a signal during training.
        """
        number = max(rank[0] for rank in gather_integers([signals.received()]))
        if number:
            raise signals.Stopped(number)
        self.runner.call_hook("before_val_iter", batch_idx=idx, data_batch=data_batch)
        outputs = predict(self.runner.model.val_step, data_batch, self._autocast)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(
            "after_val_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs
        )


@LOOPS.register_module()
class VLMTestLoop(TestLoop):
    """mmengine's test loop for our batches.

    Args:
        runner, dataloader, evaluator: see mmengine.
        dtype (str | None): ``bfloat16`` or ``float16`` autocast; None for none.
    """

    def __init__(
        self, runner: Any, dataloader: Any, evaluator: Any, dtype: str | None = None
    ) -> None:
        super().__init__(runner, dataloader, evaluator)
        self.dtype = precision(dtype)

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Predict and score one batch."""
        self.runner.call_hook("before_test_iter", batch_idx=idx, data_batch=data_batch)
        outputs = predict(self.runner.model.test_step, data_batch, self.dtype)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(
            "after_test_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs
        )
