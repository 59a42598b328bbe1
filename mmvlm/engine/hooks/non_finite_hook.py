"""Stops a run whose loss is not finite, before the optimizer sees it."""

from __future__ import annotations

import math
from typing import Any

from mmengine.hooks import Hook

from mmvlm.registry import HOOKS
from mmvlm.utils.dist import gather_objects


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Raise on all ranks when a loss is NaN or infinite, naming the samples.

    The loss was summed over ranks, so every rank sees the same value and none is
    left waiting; weights and optimizer state are still those of the step before.
    """

    def before_optim_step(self, runner: Any, step: Any) -> None:
        """Check the loss of the step.

        Raises:
            RuntimeError: naming step, ranks and sample ids.
        """
        if math.isfinite(step.loss):
            return
        own = []
        for batch, loss in zip(step.batches, step.losses, strict=True):
            if not math.isfinite(float(loss)):
                own.append((float(loss), _sample_ids(batch)))
        found = [
            f"rank {rank}: loss {loss} for {ids}"
            for rank, losses in enumerate(gather_objects(own))
            for loss, ids in losses
        ]
        raise RuntimeError(
            f"loss is {step.loss} in optimizer step {runner.iter + 1}; weights are "
            "still those of the step before. Samples of the micro-batches: "
            + ("; ".join(found) or "each finite alone, the sum overflows")
        )


def _sample_ids(batch: Any) -> list[str]:
    ids = getattr(batch.get("inputs"), "sample_ids", None)
    if ids is None:
        samples = batch.get("data_samples") or ()
        ids = [getattr(sample, "sample_id", "?") for sample in samples]
    return [str(one) for one in ids]
