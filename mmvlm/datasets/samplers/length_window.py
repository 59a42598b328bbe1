"""Batches of similar lengths, from windows of a shuffle."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmvlm.registry import DATA_SAMPLERS

from .lengths import checksum, token_lengths
from .simple import RandomBatchSampler


@DATA_SAMPLERS.register_module()
class LengthWindowSampler(RandomBatchSampler):
    """A shuffle whose windows are sorted by token length, longest first.

    A window holds many steps, so the samples of a step have nearly one length: what
    xtuner's length-grouped sampler does against padding, for comparison with runs of
    it. Our batches have no padding to save, and a sorted window makes steps of long
    samples follow each other; prefer ``BalancedBatchSampler``, which keeps the order
    random and the memory even.

    Args:
        dataset (Dataset): offers ``token_lengths_at(epoch)``.
        batch_size (int): samples per micro-batch.
        window (int): steps per window; no more than a quarter of the epoch's.
        shuffle_steps (bool): shuffle the steps of a window.
        **kwargs: see :class:`PlannedBatchSampler`.

    Raises:
        ValueError: for a window below one step.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        window: int = 50,
        shuffle_steps: bool = False,
        **kwargs: Any,
    ) -> None:
        if window < 1:
            raise ValueError(
                f"LengthWindowSampler: window={window}, expected 1 step or more."
            )
        self.window, self.shuffle_steps = window, shuffle_steps
        super().__init__(dataset, batch_size, **kwargs)

    def order(self, epoch: int) -> np.ndarray:
        """Return the epoch's order, window by window."""
        order = super().order(epoch)
        lengths = token_lengths(self.dataset, epoch)
        rng = np.random.default_rng((self.seed, epoch, 1))
        step = self._step_batches * self.batch_size
        window = max(1, min(self.window, len(order) // (4 * step))) * step
        parts = []
        for start in range(0, len(order), window):
            part = order[start : start + window]
            part = part[np.argsort(-lengths[part], kind="stable")]
            whole = len(part) // step * step
            # Neighbours in length go to different ranks, so that all are as full.
            steps = part[:whole].reshape(-1, self.batch_size, self._step_batches)
            steps = steps.transpose(0, 2, 1).reshape(-1, step)
            if self.shuffle_steps:
                steps = rng.permutation(steps)
            parts += [steps.reshape(-1), part[whole:]]
        return np.concatenate(parts)

    def fingerprint(self, epoch: int) -> dict[str, Any]:
        """Return what the plan depends on: lengths and window as well."""
        return dict(
            super().fingerprint(epoch),
            lengths=checksum(token_lengths(self.dataset, epoch)),
            window=self.window,
            shuffle_steps=self.shuffle_steps,
        )
