"""A linear warm-up, then a line down."""

from __future__ import annotations

import math
from typing import Any

from mmvlm.registry import PARAM_SCHEDULERS

from .schedulers import WarmupCosineLR


@PARAM_SCHEDULERS.register_module()
class WarmupLinearLR(WarmupCosineLR):
    """Linear warm-up, then linear decay to ``min_ratio``, by optimizer step.

    Args:
        optimizer, end, last_step, by_epoch: see :class:`WarmupCosineLR`.
        warmup_ratio (float): fraction of the run's steps, 0-1; LISA: 0.02.
        min_ratio (float): last factor of the learning rate, 0-1.
        start_ratio (float): first factor of the warm-up, 0-1.
    """

    def __init__(
        self,
        optimizer: Any,
        *,
        warmup_ratio: float = 0.03,
        min_ratio: float = 0.0,
        start_ratio: float = 0.0,
        end: int,
        last_step: int = -1,
        by_epoch: bool = False,
    ) -> None:
        super().__init__(
            optimizer,
            warmup_ratio=warmup_ratio,
            min_ratio=min_ratio,
            start_ratio=start_ratio,
            end=end,
            last_step=last_step,
            by_epoch=by_epoch,
        )

    def _get_value(self) -> list[float]:
        warmup = math.ceil(self.warmup_ratio * self.total)
        if self.last_step < warmup:
            return super()._get_value()
        progress = (self.last_step - warmup) / max(1, self.total - warmup)
        factor = 1 - (1 - self.min_ratio) * min(1.0, progress)
        return [base * factor for base in self.base_values]
