"""Batch samplers that plan an epoch ahead: deterministic and resumable."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.logging import print_log
from torch.utils.data import Sampler


class PlannedBatchSampler(Sampler, ABC):
    """Cut an order of samples into micro-batches and deal them to the ranks.

    Subclasses give the order of an epoch's samples, equal on all ranks because it
    depends on (seed, epoch) only. Consecutive runs of ``batch_size`` samples are
    micro-batches, micro-batch j goes to rank ``j % world_size``, and the micro-batches
    ``k * world_size * accumulation`` onwards make optimizer step k. So a step holds
    the same samples however they are spread over ranks and accumulation.

    Every rank gets equally many micro-batches, a multiple of ``accumulation``. The
    samples left for the last step are shared out evenly, in smaller micro-batches.
    Only when there are fewer of them than micro-batches, samples from the start
    of the order are repeated (``num_repeated``, logged), or with ``repeat=False``
    some micro-batches stay empty.

    Args:
        dataset (Dataset): offers ``len`` and, for orders by length, ``lengths``.
        batch_size (int): samples per micro-batch.
        seed (int | None): of the order; None agrees on one over the ranks.
        rank, world_size (int | None): None asks mmengine.dist.
        accumulation (int): micro-batches of an optimizer step per rank.
        repeat (bool): see above.

    Raises:
        ValueError: for an empty dataset or sizes below 1.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        accumulation: int = 1,
        repeat: bool = True,
    ) -> None:
        here, world = get_dist_info()
        self.rank = here if rank is None else rank
        self.world_size = world if world_size is None else world_size
        for key, value in (
            ("len(dataset)", len(dataset)),
            ("batch_size", batch_size),
            ("accumulation", accumulation),
            ("world_size", self.world_size),
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"{type(self).__name__}: {key}={value!r}, expected an int of 1 or "
                    "more."
                )
        if not 0 <= self.rank < self.world_size:
            raise ValueError(
                f"{type(self).__name__}: rank={self.rank} outside "
                f"0..{self.world_size - 1}."
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.repeat = repeat
        self.epoch = 0
        self._position = 0
        if self.num_repeated:
            print_log(
                f"{type(self).__name__}: {self.num_repeated} of {self.num_samples} "
                f"samples come twice per epoch, because the last step has fewer "
                f"samples than micro-batches ({self._step_batches}).",
                logger="current",
                level=logging.WARNING,
            )

    @abstractmethod
    def order(self, epoch: int) -> np.ndarray:
        """Return ``num_samples`` positions in the order of an epoch."""

    @property
    def num_samples(self) -> int:
        """Samples of an epoch, as many as ``order`` gives."""
        return len(self.dataset)

    @property
    def _step_batches(self) -> int:
        """Micro-batches of an optimizer step over all ranks."""
        return self.world_size * self.accumulation

    @property
    def _tail(self) -> int:
        """Samples that do not fill a step."""
        return self.num_samples % (self._step_batches * self.batch_size)

    @property
    def num_repeated(self) -> int:
        """How many samples come a second time in an epoch."""
        if not self.repeat or self._tail == 0:
            return 0
        return max(0, self._step_batches - self._tail)

    def __len__(self) -> int:
        """Return the micro-batches of the current epoch, equal on all ranks."""
        return self.batches_at(self.epoch)

    def batches_at(self, epoch: int) -> int:
        """Return the micro-batches of an epoch; the same for all epochs here."""
        full = self.num_samples // (self._step_batches * self.batch_size)
        return (full + (self._tail > 0)) * self.accumulation

    def global_batches(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the global batches of an epoch.

        Returns:
            tuple[np.ndarray, np.ndarray]: the full steps, (steps, samples), and the
            samples of the last one, (n,), empty when none are left for it.
        """
        order = np.asarray(self.order(epoch))
        head = len(order) - self._tail
        full = order[:head].reshape(-1, self._step_batches * self.batch_size)
        last = order[head:]
        if self.num_repeated:
            last = np.concatenate([last, np.resize(order, self.num_repeated)])
        return full, last

    def plan(self, epoch: int) -> list[list[int]]:
        """Return this rank's micro-batches of an epoch."""
        full, last = self.global_batches(epoch)
        batches = full.reshape(-1, self.batch_size)
        mine = batches[self.rank :: self.world_size].tolist()
        if len(last):
            shares = np.array_split(last, self._step_batches)
            mine += [share.tolist() for share in shares[self.rank :: self.world_size]]
        return mine

    def fingerprint(self, epoch: int) -> dict[str, Any]:
        """Return, in plain values, what an epoch's plan depends on.

        A run is resumed exactly only where these are what they were.
        """
        return dict(
            type=type(self).__name__,
            seed=self.seed,
            batch_size=self.batch_size,
            samples=len(self.dataset),
        )

    def set_epoch(self, epoch: int) -> None:
        """Plan the next iteration for this epoch."""
        self.epoch = int(epoch)

    def set_position(self, batch: int) -> None:
        """Start the next iteration, and only that one, at this micro-batch.

        Raises:
            ValueError: when the epoch has no such micro-batch.
        """
        if not 0 <= batch <= len(self):
            raise ValueError(
                f"{type(self).__name__}: position {batch} outside 0..{len(self)}, the "
                "micro-batches of an epoch. Was the checkpoint written with another "
                "batch size, number of ranks or data set?"
            )
        self._position = int(batch)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the (rest of the) current epoch's plan.

        The position is taken with the first batch, not with the iterator: a loader
        with workers makes two iterators and throws the first one away.
        """
        start, self._position = self._position, 0
        yield from self.plan(self.epoch)[start:]
