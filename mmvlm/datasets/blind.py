"""The blind run: whose images each sample gets in place of its own."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np
from torch.utils.data import Dataset


def deal_inputs(dataset: Dataset, keys_of: Callable[[Any], tuple]) -> np.ndarray:
    """Give each row the inputs of another: a derangement, seeded.

    Distinct sets of images are put on a shuffled circle and each is replaced by its
    successor, so that two questions about one image both get another image.

    Args:
        dataset (ConversationDataset): whose selected rows take part.
        keys_of (Callable): gives the inputs of a record, empty for none.

    Returns:
        np.ndarray: (records of the file,) int32: the row whose inputs to take, -1
        where a row has none.

    Raises:
        ValueError: when there is only one set of a kind.
    """
    rows = dataset._rows
    kinds: dict[tuple, int] = {}
    kind = np.full(len(rows), -1, dtype=np.int32)
    names = np.zeros(len(rows), dtype=np.uint64)  # hashes: no key is kept
    for position, row in enumerate(rows.tolist()):
        keys = keys_of(dataset._record(row))
        if keys:
            kind[position] = kinds.setdefault(_kind_of(keys), len(kinds))
            digest = blake2b(repr(keys).encode(), digest_size=8).digest()
            names[position] = int.from_bytes(digest, "little")
    donors = np.full(len(dataset._records), -1, dtype=np.int32)
    for what in sorted(kinds):
        members = np.flatnonzero(kind == kinds[what])
        _, first, owner = np.unique(
            names[members], return_index=True, return_inverse=True
        )
        if len(first) < 2:
            keys = keys_of(dataset._record(int(rows[members[0]])))
            words = ", ".join(f"{count} {name}" for name, count in what)
            raise ValueError(
                f"dataset '{dataset.name}': shuffle_images needs two different "
                f"sets of {words}, found one ({keys!r:.100}). "
                "Leave those samples out with indices or filter_cfg."
            )
        by_appearance = np.argsort(first)
        seed = (dataset.seed, *(count for _, count in what))
        order = np.random.default_rng(seed).permutation(len(first))
        circle = by_appearance[order]
        successor = np.empty(len(first), dtype=np.int64)
        successor[circle] = np.roll(circle, -1)
        donors[rows[members]] = rows[members[first[successor[owner]]]]
    return donors


def _kind_of(keys: tuple) -> tuple[tuple[str, int], ...]:
    """Name and number of inputs: sets of one kind may take each other's place."""
    if isinstance(keys[0], tuple):
        return tuple((name, len(items)) for name, items in keys)
    return (("image(s)", len(keys)),)
