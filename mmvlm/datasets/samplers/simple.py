"""Batches in random or in file order."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmvlm.registry import DATA_SAMPLERS

from .base import PlannedBatchSampler


@DATA_SAMPLERS.register_module()
class RandomBatchSampler(PlannedBatchSampler):
    """A new permutation every epoch, from (seed, epoch).

    Args:
        dataset (Dataset): what is sampled.
        batch_size (int): samples per micro-batch.
        shuffle (bool): False keeps the file's order, for debugging.
        **kwargs: see :class:`PlannedBatchSampler`.
    """

    def __init__(
        self, dataset: Any, batch_size: int, *, shuffle: bool = True, **kwargs: Any
    ) -> None:
        self.shuffle = shuffle
        super().__init__(dataset, batch_size, **kwargs)

    def order(self, epoch: int) -> np.ndarray:
        """Return the epoch's permutation."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        rng = np.random.default_rng((self.seed, epoch))
        return rng.permutation(len(self.dataset))


@DATA_SAMPLERS.register_module()
class SequentialBatchSampler(PlannedBatchSampler):
    """Every sample exactly once, in file order: for validation and test.

    All ranks get equally many micro-batches, so that sharded models stay in step;
    those of the last step may be smaller or empty (``collate_flat`` makes a batch
    that trains and scores nothing of an empty one). Nothing is repeated, so what
    mmengine's ``collect_results`` cuts off (all beyond ``len(dataset)``) is nothing.
    It interleaves the ranks' results one by one, which is not the file's order:
    metrics that need an order take it from ``VLMDataSample.index``.

    Args:
        dataset (Dataset): what is sampled.
        batch_size (int): samples per micro-batch.
        seed (int | None): accepted, as the runner gives it to every sampler.
        **kwargs: see :class:`PlannedBatchSampler`; ``repeat`` is always False.
    """

    def __init__(
        self, dataset: Any, batch_size: int, *, seed: int | None = 0, **kwargs: Any
    ) -> None:
        if kwargs.pop("repeat", False):
            raise ValueError(
                "SequentialBatchSampler: repeat=True would count samples twice; use "
                "RandomBatchSampler(shuffle=False) to train in file order."
            )
        super().__init__(dataset, batch_size, seed=seed or 0, repeat=False, **kwargs)

    def order(self, epoch: int) -> np.ndarray:
        """Return the file's order."""
        return np.arange(len(self.dataset))
