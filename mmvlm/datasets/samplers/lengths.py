"""What a plan by length must know of a dataset."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np


def token_lengths(dataset: Any, epoch: int) -> np.ndarray:
    """Return the tokens of each of an epoch's samples, image tokens included.

    Samples without a token (damaged ones, which the policy leaves out) count as 1,
    so that they are dealt out like all others.

    Args:
        dataset (Dataset): offers ``token_lengths_at(epoch)``.
        epoch (int): whose samples.

    Returns:
        np.ndarray: (samples,) int64, at least 1.

    Raises:
        TypeError: when the dataset does not know its lengths in tokens.
        ValueError: when there are not as many lengths as samples.
    """
    return np.maximum(_per_sample(dataset, "token_lengths_at", epoch), 1)


def image_counts(dataset: Any, epoch: int) -> np.ndarray:
    """Return the images of each of an epoch's samples, as :func:`token_lengths`."""
    return _per_sample(dataset, "num_images_at", epoch)


def _per_sample(dataset: Any, method: str, epoch: int) -> np.ndarray:
    if not hasattr(dataset, method):
        raise TypeError(
            f"data set '{name_of(dataset)}' ({type(dataset).__name__}) offers no "
            f"{method}(epoch), which this sampler plans by. Use RandomBatchSampler, "
            "or a reader that knows its lengths."
        )
    values = np.asarray(getattr(dataset, method)(epoch), dtype=np.int64)
    if values.shape != (len(dataset),):
        raise ValueError(
            f"data set '{name_of(dataset)}': {method}({epoch}) gives values of shape "
            f"{values.shape} for {len(dataset)} samples."
        )
    return values


def checksum(values: np.ndarray) -> int:
    """Return a number that changes with the values, not with their dtype."""
    return zlib.crc32(np.ascontiguousarray(values, dtype=np.int64).tobytes())


def name_of(dataset: Any) -> str:
    """Return the dataset's name for messages."""
    return str(getattr(dataset, "name", type(dataset).__name__))


def sample_name(dataset: Any, position: int, epoch: int) -> str:
    """Name a sample of an epoch for messages, through (nested) mixtures."""
    while hasattr(dataset, "rows_at"):
        rows, _ = dataset.rows_at(epoch)
        member, before = 0, 0
        while position >= before + len(rows[member]):
            before += len(rows[member])
            member += 1
        position = int(rows[member][position - before])
        dataset = dataset.datasets[member]
    return f"position {position} of '{name_of(dataset)}'"
