"""Micro-batches of a fixed number of tokens, filled with whole samples."""

from __future__ import annotations

import logging
from collections import defaultdict
from itertools import chain
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmvlm.registry import DATA_SAMPLERS

from .balanced import deal_longest_first
from .lengths import checksum, sample_name, token_lengths
from .simple import RandomBatchSampler

_POLICIES = ("error", "drop")


def best_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Pack items by best fit decreasing: the longest first, into the tightest room.

    Packs lie on stacks by the room they have left, and a bit set says which stacks
    hold any, so the tightest fitting pack is the lowest set bit at or above the
    item's length: constant time per item, whatever the number of packs.

    Args:
        lengths (np.ndarray): (n,) integers from 1 to ``capacity``.
        capacity (int): of a pack.

    Returns:
        list[list[int]]: items of each pack, longest first.
    """
    order = np.argsort(-lengths, kind="stable")
    stacks: defaultdict[int, list[int]] = defaultdict(list)
    occupied = 0
    packs: list[list[int]] = []
    for item, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = occupied >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            pack = stacks[room].pop()
            if not stacks[room]:
                occupied ^= 1 << room
        else:
            room, pack = capacity, len(packs)
            packs.append([])
        packs[pack].append(item)
        room -= length
        if room:
            stacks[room].append(pack)
            occupied |= 1 << room
    return packs


def split_to(
    packs: list[list[int]], lengths: np.ndarray, count: int
) -> list[list[int]]:
    """Halve the fullest packs until there are ``count``, or no pack has two samples.

    Args:
        packs (list[list[int]]): samples of each pack.
        lengths (np.ndarray): of all samples.
        count (int): wanted packs.
    """
    packs = list(packs)
    while len(packs) < count:
        sums = [lengths[pack].sum() if len(pack) > 1 else 0 for pack in packs]
        fullest = int(np.argmax(sums))
        if not sums[fullest]:
            break
        pack = np.array(packs[fullest])
        half = deal_longest_first(lengths[pack][None], 2)[0]
        packs[fullest : fullest + 1] = [pack[half == n].tolist() for n in (0, 1)]
    return packs


@DATA_SAMPLERS.register_module()
class PackedBatchSampler(RandomBatchSampler):
    """Packs of whole samples, each of at most ``pack_length`` tokens.

    The seeded shuffle of an epoch is cut into buffers; the samples of a buffer are
    packed by best fit decreasing and its packs shuffled. A sample is never split.
    Packs are what the flat layout holds anyway: positions restart with every sample,
    attention stays inside it, and images stay with it.

    Here ``batch_size`` counts packs, so a micro-batch has at most ``batch_size *
    pack_length`` tokens, always nearly as many. How many samples make a step varies
    a little, and so does the number of steps per epoch (``batches_at``).

    Nothing is repeated. The packs of the last step are dealt out evenly; when they
    are fewer than the micro-batches, packs are halved, and only when samples are
    fewer, some micro-batches stay empty.

    Every rank plans alike, without communication.

    Args:
        dataset (Dataset): offers ``token_lengths_at(epoch)``.
        batch_size (int): packs per micro-batch.
        pack_length (int): most tokens of a pack.
        buffer_size (int): samples that are packed together; more waste less and
            tie the order of training more to length.
        too_long (str): a sample longer than a pack is an ``error``, or ``drop`` leaves
            it out, counted (``dropped_at``) and logged.
        **kwargs: see :class:`RandomBatchSampler`.

    Raises:
        ValueError: for wrong options, a too long sample (named), or when nothing is
            left to pack.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        pack_length: int = 4096,
        buffer_size: int = 1024,
        too_long: str = "error",
        **kwargs: Any,
    ) -> None:
        if pack_length < 1 or buffer_size < 1:
            raise ValueError(
                f"PackedBatchSampler: pack_length={pack_length}, buffer_size="
                f"{buffer_size}; expected 1 or more."
            )
        if too_long not in _POLICIES:
            raise ValueError(
                f"PackedBatchSampler: too_long={too_long!r}, expected one of "
                f"{list(_POLICIES)}."
            )
        if kwargs.pop("repeat", False):
            raise ValueError("PackedBatchSampler: repeat=True; packs are not repeated.")
        self.pack_length, self.buffer_size = pack_length, buffer_size
        self.too_long = too_long
        self._planned: tuple[int, list[list[int]]] | None = None
        self._counts: dict[int, int] = {}
        self._dropped: dict[int, np.ndarray] = {}
        super().__init__(dataset, batch_size, repeat=False, **kwargs)

    def batches_at(self, epoch: int) -> int:
        """Return the micro-batches of an epoch per rank; known once it is planned."""
        if epoch not in self._counts:
            self._global_plan(epoch)
        return self._counts[epoch]

    def dropped_at(self, epoch: int) -> np.ndarray:
        """Return the samples of an epoch that are longer than a pack."""
        self.batches_at(epoch)
        return self._dropped[epoch]

    def plan(self, epoch: int) -> list[list[int]]:
        """Return this rank's micro-batches of an epoch."""
        return self._global_plan(epoch)[self.rank :: self.world_size]

    def _global_plan(self, epoch: int) -> list[list[int]]:
        """Return the micro-batches of all ranks: number j is of rank j % world."""
        if self._planned is not None and self._planned[0] == epoch:
            return self._planned[1]
        lengths = token_lengths(self.dataset, epoch)
        packs = self._packs(epoch, lengths)
        per_step = self._step_batches * self.batch_size
        head = len(packs) - len(packs) % per_step
        groups = [
            packs[start : start + self.batch_size]
            for start in range(0, head, self.batch_size)
        ]
        if head < len(packs):
            last = split_to(packs[head:], lengths, self._step_batches)
            shares = np.array_split(np.arange(len(last)), self._step_batches)
            groups += [[last[number] for number in share] for share in shares]
        plan = [list(chain.from_iterable(group)) for group in groups]
        self._planned = (epoch, plan)
        self._counts[epoch] = len(plan) // self.world_size
        return plan

    def _packs(self, epoch: int, lengths: np.ndarray) -> list[list[int]]:
        order = self._fitting(self.order(epoch), epoch, lengths)
        rng = np.random.default_rng((self.seed, epoch, 1))
        packs: list[list[int]] = []
        for start in range(0, len(order), self.buffer_size):
            buffer = order[start : start + self.buffer_size]
            made = best_fit(lengths[buffer], self.pack_length)
            mixed = rng.permutation(len(made)).tolist()
            rows = buffer.tolist()
            packs += [
                [rows[item] for item in made[number]]
                for number in (mixed if self.shuffle else range(len(made)))
            ]
        return packs

    def _fitting(
        self, order: np.ndarray, epoch: int, lengths: np.ndarray
    ) -> np.ndarray:
        """Return the samples that fit into a pack; refuse or count the others."""
        fits = lengths[order] <= self.pack_length
        dropped = np.sort(order[~fits])
        self._dropped[epoch] = dropped
        if not len(dropped):
            return order
        shown = ", ".join(
            f"{sample_name(self.dataset, int(p), epoch)} ({lengths[p]} tokens)"
            for p in dropped[:3]
        )
        text = (
            f"PackedBatchSampler: {len(dropped)} of {len(order)} samples of epoch "
            f"{epoch} are longer than pack_length={self.pack_length}: {shown}"
            f"{', ...' if len(dropped) > 3 else ''}."
        )
        if self.too_long == "error" or len(dropped) == len(order):
            raise ValueError(
                f"{text} Raise pack_length, shorten them (EncodeConversation("
                "max_length=...)), or leave them out with too_long='drop'."
            )
        print_log(f"{text} They are left out.", "current", logging.WARNING)
        return order[fits]

    def fingerprint(self, epoch: int) -> dict[str, Any]:
        """Return what the plan depends on: lengths and packing options as well."""
        return dict(
            super().fingerprint(epoch),
            lengths=checksum(token_lengths(self.dataset, epoch)),
            pack_length=self.pack_length,
            buffer_size=self.buffer_size,
            too_long=self.too_long,
        )
