"""A linear warm-up, then a constant rate."""

from __future__ import annotations

from typing import Any

from mmvlm.registry import PARAM_SCHEDULERS

from .schedulers import WarmupCosineLR


@PARAM_SCHEDULERS.register_module()
class WarmupConstantLR(WarmupCosineLR):
    """Linear warm-up, then the full learning rate to the end, by optimizer step.

    Args:
        optimizer, end, last_step, by_epoch: see :class:`WarmupCosineLR`.
        warmup_ratio (float): fraction of the run's steps, 0-1.
        start_ratio (float): first factor of the warm-up, 0-1.
    """

    def __init__(
        self,
        optimizer: Any,
        *,
        warmup_ratio: float = 0.03,
        start_ratio: float = 0.0,
        end: int,
        last_step: int = -1,
        by_epoch: bool = False,
    ) -> None:
        super().__init__(
            optimizer,
            warmup_ratio=warmup_ratio,
            start_ratio=start_ratio,
            min_ratio=1.0,
            end=end,
            last_step=last_step,
            by_epoch=by_epoch,
        )
