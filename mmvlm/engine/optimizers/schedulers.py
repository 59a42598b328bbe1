"""Learning-rate schedules by optimizer step."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from mmvlm.registry import PARAM_SCHEDULERS


def warmup_cosine(
    step: int,
    total: int,
    warmup_ratio: float = 0.03,
    min_ratio: float = 0.0,
    start_ratio: float = 0.0,
    *,
    from_start: bool = False,
) -> float:
    """Return the factor of the learning rate at an optimizer step.

    Linear from ``start_ratio`` over ``ceil(warmup_ratio * total)`` steps, then half
    a cosine down to ``min_ratio``, as transformers' cosine schedule, which LLaVA
    uses. LAVIS counts the cosine from step 0 (``from_start``): behind the warm-up
    the rate falls at once to where the cosine is by then.

    Args:
        step (int): 0-based optimizer step.
        total (int): optimizer steps of the run.
        warmup_ratio (float): fraction of ``total``, 0-1.
        min_ratio (float): factor at the end, 0-1.
        start_ratio (float): factor at step 0, 0-1.
        from_start (bool): count the cosine from step 0, not from the warm-up's end.

    Example:
        >>> [round(warmup_cosine(step, 10, 0.2), 3) for step in (0, 1, 2, 6)]
        [0.0, 0.5, 1.0, 0.5]
    """
    warmup = math.ceil(warmup_ratio * total)
    if step < warmup:
        return start_ratio + (1 - start_ratio) * step / max(1, warmup)
    begin = 0 if from_start else warmup
    progress = min(1.0, (step - begin) / max(1, total - begin))
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """Linear warm-up, then cosine decay, by optimizer step.

    Args:
        optimizer (OptimWrapper | torch.optim.Optimizer): whose groups it drives.
        warmup_ratio (float): fraction of the run's steps, 0-1; LLaVA: 0.03.
        min_ratio (float): last factor of the learning rate, 0-1.
        start_ratio (float): first factor of the warm-up, 0-1.
        from_start (bool): count the cosine from step 0, as LAVIS does.
        end (int): optimizer steps of the run; the runner fills it in.
        last_step (int): see mmengine. Default: -1.
        by_epoch (bool): must be False; there for the runner's sake.

    Raises:
        ValueError: for ratios outside 0-1 or ``by_epoch=True``.
    """

    def __init__(
        self,
        optimizer: Any,
        *,
        warmup_ratio: float = 0.03,
        min_ratio: float = 0.0,
        start_ratio: float = 0.0,
        from_start: bool = False,
        end: int,
        last_step: int = -1,
        by_epoch: bool = False,
    ) -> None:
        ratios = dict(
            warmup_ratio=warmup_ratio, min_ratio=min_ratio, start_ratio=start_ratio
        )
        for name, ratio in ratios.items():
            if not 0 <= ratio <= 1:
                raise ValueError(
                    f"{type(self).__name__}: {name}={ratio}, expected 0 to 1."
                )
        if by_epoch:
            raise ValueError(
                f"{type(self).__name__} counts optimizer steps: by_epoch=True is not "
                "possible."
            )
        self.warmup_ratio = warmup_ratio
        self.min_ratio = min_ratio
        self.start_ratio = start_ratio
        self.from_start = from_start
        self.total = end
        super().__init__(
            optimizer, "lr", begin=0, end=end, last_step=last_step, by_epoch=False
        )

    def _get_value(self) -> list[float]:
        factor = warmup_cosine(
            self.last_step,
            self.total,
            self.warmup_ratio,
            self.min_ratio,
            self.start_ratio,
            from_start=self.from_start,
        )
        return [base * factor for base in self.base_values]


def schedulers_by_step(cfg: Any) -> Any:
    """Return scheduler configs in which ours say that they count steps.

    mmengine gives a scheduler without ``by_epoch`` the number of epochs as its end.

    Args:
        cfg (dict | list | None): the config's ``param_scheduler``.
    """
    if isinstance(cfg, dict) and "type" in cfg:
        kind = cfg["type"]
        kind = PARAM_SCHEDULERS.get(kind) if isinstance(kind, str) else kind
        ours = isinstance(kind, type) and issubclass(kind, WarmupCosineLR)
        return {"by_epoch": False, **cfg} if ours else cfg
    if isinstance(cfg, list | tuple):
        return [schedulers_by_step(one) for one in cfg]
    return cfg
