"""LLaVA's sampler: batches of one modality and of similar length."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from mmvlm.registry import DATA_SAMPLERS

from .base import PlannedBatchSampler

#: ``(n, generator) -> permutation of range(n)``.
Permute = Callable[[int, torch.Generator | None], list[int]]


def _randperm(n: int, generator: torch.Generator | None) -> list[int]:
    return torch.randperm(n, generator=generator).tolist()


def split_to_even_chunks(
    indices: Sequence[int], lengths: Sequence[int], num_chunks: int
) -> list[list[int]]:
    """Deal indices to chunks of one size and of nearly one total length.

    Each index in turn goes to the chunk with the smallest sum of lengths (the first
    on ties) that is not yet full. When the indices do not divide evenly they are
    dealt round robin.

    Args:
        indices (Sequence[int]): longest first.
        lengths (Sequence[int]): of all samples, addressed by index.
        num_chunks (int): number of chunks.

    Returns:
        list[list[int]]: ``num_chunks`` lists.
    """
    if len(indices) % num_chunks:
        return [list(indices[start::num_chunks]) for start in range(num_chunks)]
    size = len(indices) // num_chunks
    chunks: list[list[int]] = [[] for _ in range(num_chunks)]
    open_chunks = [(0, chunk) for chunk in range(num_chunks)]
    for index in indices:
        total, chunk = open_chunks[0]
        chunks[chunk].append(index)
        if len(chunks[chunk]) == size:
            heapq.heappop(open_chunks)
        else:
            heapq.heapreplace(open_chunks, (total + lengths[index], chunk))
    return chunks


def length_grouped_indices(
    lengths: Sequence[int],
    batch_size: int,
    world_size: int,
    generator: torch.Generator | None = None,
    *,
    permute: Permute = _randperm,
) -> list[int]:
    """Return a random order whose device batches hold samples of similar length.

    A permutation is cut into megabatches of ``world_size * batch_size``; each is
    sorted by length, longest first, and dealt evenly to the devices.

    Args:
        lengths (Sequence[int]): of all samples.
        batch_size (int): per device.
        world_size (int): ranks times accumulation.
        generator (torch.Generator | None): None takes the global one.
        permute (Permute): draws permutations.
    """
    lengths = [int(length) for length in lengths]
    order = permute(len(lengths), generator)
    mega = world_size * batch_size
    result: list[int] = []
    for start in range(0, len(order), mega):
        group = sorted(order[start : start + mega], key=lambda i: -lengths[i])
        for chunk in split_to_even_chunks(group, lengths, world_size):
            result += chunk
    return result


def modality_length_grouped_indices(
    lengths: Sequence[int],
    batch_size: int,
    world_size: int,
    generator: torch.Generator | None = None,
    *,
    group_generator: torch.Generator | None = None,
    permute: Permute = _randperm,
) -> list[int]:
    """Return a random order whose device batches hold one modality each.

    Samples with and without image are grouped by length apart; their megabatches
    are shuffled together. What is left of both (their last megabatches, even if
    full) comes at the end, mixed and sorted by index.

    Args:
        lengths (Sequence[int]): positive with image, negative without.
        batch_size (int): per device.
        world_size (int): ranks times accumulation.
        generator (torch.Generator | None): shuffles megabatches, or groups when
            there is one modality only; None takes the global one.
        group_generator (torch.Generator | None): groups each of two modalities;
            None takes the global one, as LLaVA always does.
        permute (Permute): draws permutations.

    Raises:
        ValueError: when a length is 0, as it has no modality.
    """
    signed = np.asarray(lengths, dtype=np.int64)
    if (signed == 0).any():
        raise ValueError(
            f"lengths[{int(np.flatnonzero(signed == 0)[0])}] is 0; expected above 0 "
            "with image, below 0 without."
        )
    if (signed > 0).all() or (signed < 0).all():
        return length_grouped_indices(
            signed.tolist(), batch_size, world_size, generator, permute=permute
        )
    mega = world_size * batch_size
    megabatches: list[list[int]] = []
    rest: list[int] = []
    for members in (np.flatnonzero(signed > 0), np.flatnonzero(signed < 0)):
        local = length_grouped_indices(
            np.abs(signed[members]).tolist(),
            batch_size,
            world_size,
            group_generator,
            permute=permute,
        )
        grouped = members[local].tolist()
        groups = [grouped[i : i + mega] for i in range(0, len(grouped), mega)]
        rest += groups.pop()
        megabatches += groups
    shuffled = permute(len(megabatches), generator)
    order = [index for number in shuffled for index in megabatches[number]]
    return order + sorted(rest)


@DATA_SAMPLERS.register_module()
class ModalityLengthSampler(PlannedBatchSampler):
    """LLaVA's order, drawn from a generator of its own seeded by (seed, epoch).

    Text-only batches cost no vision tower, and batches of equal length waste no
    time at the ranks' meeting point.

    Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
    arXiv 2310.03744. Deviations: LLaVA draws from the global generator; the last
    step is shared out evenly (see :class:`PlannedBatchSampler`).

    Args:
        dataset (Dataset): offers ``lengths_at(epoch)`` or ``lengths``, signed.
        batch_size (int): samples per micro-batch.
        by_modality (bool): False groups by length only.
        shuffle (bool): must be True; the order is random by nature.
        **kwargs: see :class:`PlannedBatchSampler`.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        by_modality: bool = True,
        shuffle: bool = True,
        **kwargs: Any,
    ) -> None:
        if not shuffle:
            raise ValueError(
                "ModalityLengthSampler: shuffle=False is not possible; use "
                "SequentialBatchSampler or RandomBatchSampler(shuffle=False)."
            )
        self.by_modality = by_modality
        super().__init__(dataset, batch_size, **kwargs)

    def order(self, epoch: int) -> np.ndarray:
        """Return the epoch's grouped order."""
        dataset = self.dataset
        has_epochs = hasattr(dataset, "lengths_at")
        lengths = np.asarray(
            dataset.lengths_at(epoch) if has_epochs else dataset.lengths
        )
        state = np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(state))
        if not self.by_modality:
            indices = length_grouped_indices(
                np.abs(lengths), self.batch_size, self._step_batches, generator
            )
        else:
            indices = modality_length_grouped_indices(
                lengths,
                self.batch_size,
                self._step_batches,
                generator,
                group_generator=generator,
            )
        return np.asarray(indices, dtype=np.int64)
