"""OneLLM's samplers: every optimizer step holds one modality."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmvlm.registry import DATA_SAMPLERS

from .base import PlannedBatchSampler

_ORDERS = ("round_robin", "shuffled")


@DATA_SAMPLERS.register_module()
class SingleModalitySampler(PlannedBatchSampler):
    """Steps of one modality each; no step mixes modalities, on any rank.

    Samples are grouped by what they hold (``dataset.modalities``) and each group is
    cut into whole steps; what does not fill a step is left out for this epoch,
    other samples every time, and logged.

    Paper: Han et al., "OneLLM: One Framework to Align All Modalities with
    Language", CVPR 2024, arXiv 2312.03700.

    Args:
        dataset (Dataset): offers ``modalities_at(epoch)`` and ``lengths_at(epoch)``.
        batch_size (int): samples per micro-batch.
        order (str): ``round_robin``: modalities take turns and an epoch ends with
            the smallest of them (alignment); ``shuffled``: all steps in random
            order, samples of similar length together (instruction tuning).
        **kwargs: see :class:`PlannedBatchSampler`.

    Raises:
        ValueError: for an unknown order, or a modality that fills no step.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        order: str = "round_robin",
        **kwargs: Any,
    ) -> None:
        if order not in _ORDERS:
            raise ValueError(
                f"SingleModalitySampler: order={order!r}, expected one of "
                f"{list(_ORDERS)}."
            )
        self.kind = order
        names, counts = np.unique(dataset.modalities_at(0), return_counts=True)
        self._modalities = dict(zip(names.tolist(), counts.tolist(), strict=True))
        super().__init__(dataset, batch_size, **kwargs)
        self._report()

    @property
    def steps(self) -> dict[str, int]:
        """Optimizer steps of an epoch by modality."""
        size = self._step_batches * self.batch_size
        steps = {name: count // size for name, count in self._modalities.items()}
        short = [name for name, count in steps.items() if count == 0]
        if short:
            raise ValueError(
                f"SingleModalitySampler: {short} have fewer samples than the {size} of "
                f"a step ({self._modalities}); give them a larger weight, or make the "
                "step smaller."
            )
        if self.kind == "round_robin":
            return dict.fromkeys(steps, min(steps.values()))
        return steps

    @property
    def num_samples(self) -> int:
        """Samples of an epoch: whole steps only."""
        return sum(self.steps.values()) * self._step_batches * self.batch_size

    def _report(self) -> None:
        size = self._step_batches * self.batch_size
        left = {
            name: self._modalities[name] - steps * size
            for name, steps in self.steps.items()
        }
        print_log(
            f"SingleModalitySampler: steps per epoch {self.steps}, samples left out "
            f"of an epoch {left}.",
            logger="current",
            level=logging.INFO,
        )

    def order(self, epoch: int) -> np.ndarray:
        """Return the epoch's order, step by step."""
        rng = np.random.default_rng((self.seed, epoch))
        kinds = self.dataset.modalities_at(epoch)
        lengths = np.abs(self.dataset.lengths_at(epoch))
        size = self._step_batches * self.batch_size
        groups = []
        for name, count in self.steps.items():
            rows = rng.permutation(np.flatnonzero(kinds == name))[: count * size]
            if len(rows) < count * size:
                raise ValueError(
                    f"SingleModalitySampler: epoch {epoch} has {len(rows)} samples of "
                    f"'{name}', {count * size} are planned; a data set of a mixture "
                    "must hold one modality."
                )
            if self.kind == "shuffled":
                rows = rows[np.argsort(lengths[rows], kind="stable")]
            groups.append(rows.reshape(count, size))
        if self.kind == "round_robin":
            return np.stack(groups, 1).reshape(-1)
        steps = np.concatenate(groups)
        return steps[rng.permutation(len(steps))].reshape(-1)
