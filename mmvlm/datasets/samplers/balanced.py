"""Random global batches, dealt so that every rank has as many tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmvlm.registry import DATA_SAMPLERS

from .lengths import checksum, image_counts, token_lengths
from .simple import RandomBatchSampler

_FULL = np.iinfo(np.int64).max


class NoRoom(ValueError):
    """A sample fits nowhere.

    Args:
        row (int): the global batch.
        sample (int): the sample's place in it.
    """

    def __init__(self, row: int, sample: int) -> None:
        super().__init__(f"sample {sample} of batch {row} fits nowhere")
        self.row, self.sample = row, sample


def deal_longest_first(
    sizes: np.ndarray,
    num_bins: int,
    limits: Sequence[tuple[np.ndarray, int]] = (),
) -> np.ndarray:
    """Deal the samples of many batches to bins of nearly one size each.

    In every batch the longest sample comes first, and each goes to the bin with the
    smallest sum so far (the first on ties) that has room for it. All batches are
    dealt side by side, sample by sample, so the time per sample does not grow with
    their number.

    Args:
        sizes (np.ndarray): (batches, samples) int64, above 0.
        num_bins (int): bins per batch.
        limits (Sequence[tuple[np.ndarray, int]]): costs of the samples, shaped as
            ``sizes``, and the most that a bin may hold of them.

    Returns:
        np.ndarray: (batches, samples), the bin of each sample.

    Raises:
        NoRoom: when the limits leave no bin for a sample.
    """
    order = np.argsort(-sizes, axis=1, kind="stable")
    rows = np.arange(len(sizes))
    loads = np.zeros((len(sizes), num_bins), dtype=np.int64)
    sums = [np.zeros_like(loads) for _ in limits]
    chosen = np.empty_like(order)
    for samples in order.T:
        open_loads = loads
        for (costs, most), used in zip(limits, sums, strict=True):
            full = used + costs[rows, samples][:, None] > most
            open_loads = np.where(full, _FULL, open_loads)
        bins = open_loads.argmin(1)
        stuck = open_loads[rows, bins] == _FULL
        if stuck.any():
            row = int(stuck.argmax())
            raise NoRoom(row, int(samples[row]))
        chosen[rows, samples] = bins
        loads[rows, bins] += sizes[rows, samples]
        for (costs, _), used in zip(limits, sums, strict=True):
            used[rows, bins] += costs[rows, samples]
    return chosen


def seat_bins(
    sizes: np.ndarray, bins: np.ndarray, world_size: int, rounds: int
) -> np.ndarray:
    """Number the bins of each batch: micro-batch k of rank r is ``k * world + r``.

    The fullest bins share a round, as ranks that meet after every micro-batch want
    it; every other round is reversed, so that the ranks' sums stay close as well.

    Args:
        sizes (np.ndarray): (batches, samples).
        bins (np.ndarray): (batches, samples), from :func:`deal_longest_first`.
        world_size (int): ranks.
        rounds (int): micro-batches per rank.

    Returns:
        np.ndarray: (batches, samples), the micro-batch of each sample.
    """
    if rounds == 1:
        return bins
    rows = np.arange(len(sizes))[:, None]
    loads = np.zeros((len(sizes), world_size * rounds), dtype=np.int64)
    np.add.at(loads, (rows, bins), sizes)
    seats = np.arange(world_size * rounds).reshape(rounds, world_size)
    seats[1::2] = seats[1::2, ::-1]
    numbers = np.empty_like(loads)
    numbers[rows, np.argsort(-loads, axis=1, kind="stable")] = seats.reshape(-1)
    return np.take_along_axis(numbers, bins, 1)


@DATA_SAMPLERS.register_module()
class BalancedBatchSampler(RandomBatchSampler):
    """The global batches of ``RandomBatchSampler``, dealt longest-first by tokens.

    Which samples make a step is left to chance, as with any seeded shuffle, so
    training sees an unbiased order; only who computes them is planned. Inside a
    global batch (all ranks, all accumulation) the longest sample comes first and
    each goes to the micro-batch with the fewest tokens. Micro-batches differ in
    their number of samples and hardly in their number of tokens. As batches are
    flat and the loss is divided by the trained tokens of the whole step, loss and
    gradient do not depend on the deal.

    Every rank plans alike, without communication.

    Args:
        dataset (Dataset): offers ``token_lengths_at(epoch)``, and
            ``num_images_at(epoch)`` for ``max_images``.
        batch_size (int): mean samples per micro-batch.
        max_tokens (int | None): most tokens of a micro-batch.
        max_images (int | None): most images of a micro-batch.
        **kwargs: see :class:`RandomBatchSampler`.

    Raises:
        ValueError: naming epoch and step, when the limits leave no micro-batch
            for a sample. A run resumed with other limits keeps its global batches.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        max_tokens: int | None = None,
        max_images: int | None = None,
        **kwargs: Any,
    ) -> None:
        for key, value in dict(max_tokens=max_tokens, max_images=max_images).items():
            if value is not None and value < 1:
                raise ValueError(
                    f"BalancedBatchSampler: {key}={value}, expected 1 or more, or None."
                )
        self.max_tokens, self.max_images = max_tokens, max_images
        super().__init__(dataset, batch_size, **kwargs)

    def plan(self, epoch: int) -> list[list[int]]:
        """Return this rank's micro-batches of an epoch."""
        full, last = self.global_batches(epoch)
        lengths = token_lengths(self.dataset, epoch)
        images = None
        if self.max_images is not None:
            images = image_counts(self.dataset, epoch)
        mine = self._deal(full, lengths, images, epoch) if len(full) else []
        if len(last):
            mine += self._deal(last[None], lengths, images, epoch, len(full))
        return mine

    def _deal(
        self,
        steps: np.ndarray,
        lengths: np.ndarray,
        images: np.ndarray | None,
        epoch: int,
        first_step: int = 0,
    ) -> list[list[int]]:
        """Deal steps of one size; return this rank's micro-batches in order."""
        sizes = lengths[steps]
        limits = []
        if self.max_tokens is not None:
            limits.append((sizes, self.max_tokens))
        if images is not None:
            limits.append((images[steps], self.max_images))
        try:
            bins = deal_longest_first(sizes, self._step_batches, limits)
        except NoRoom as error:
            raise ValueError(self._no_room(error, limits, epoch, first_step)) from error
        bins = seat_bins(sizes, bins, self.world_size, self.accumulation)
        rounds = []
        for number in range(self.rank, self._step_batches, self.world_size):
            here = bins == number
            ends = np.cumsum(here.sum(1))[:-1]
            rounds.append(np.split(steps[here], ends))
        return [part.tolist() for step in zip(*rounds, strict=True) for part in step]

    def _no_room(self, error: NoRoom, limits: list, epoch: int, first_step: int) -> str:
        costs = [(c[error.row, error.sample], c[error.row].sum()) for c, _ in limits]
        bounded = zip(costs, [most for _, most in limits], strict=True)
        return (
            f"BalancedBatchSampler: in epoch {epoch}, step {first_step + error.row} a "
            f"sample fits into none of the {self._step_batches} micro-batches: "
            + "; ".join(
                f"it needs {own} of the {most} that a micro-batch may hold, the whole "
                f"step {total}"
                for (own, total), most in bounded
            )
            + f" (max_tokens={self.max_tokens}, max_images={self.max_images}). Raise "
            "the limit, lower batch_size, or accumulate more micro-batches."
        )

    def fingerprint(self, epoch: int) -> dict[str, Any]:
        """Return what the plan depends on: the lengths as well."""
        lengths = checksum(token_lengths(self.dataset, epoch))
        return dict(super().fingerprint(epoch), lengths=lengths)
