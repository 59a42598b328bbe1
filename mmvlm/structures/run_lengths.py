"""COCO's run lengths: masks as counts of 0s and 1s, column by column."""

from __future__ import annotations

from typing import Any

import numpy as np


def run_lengths(rle: Any) -> np.ndarray:
    """Return the runs of a mask, zeros first; they add up to its pixels.

    Args:
        rle (dict): ``{"size": [h, w], "counts"}``; counts are a list of runs, or
            COCO's compressed text.

    Raises:
        ValueError: when it is no mask, or its runs do not fill its size.

    """
    size = rle.get("size") if isinstance(rle, dict) else None
    sides = size if isinstance(size, list | tuple) and len(size) == 2 else ()
    if not sides or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(
            f"run lengths must be a dict with size [h, w] and counts, got {rle!r:.100}."
        )
    counts = rle.get("counts")
    if isinstance(counts, str | bytes):
        runs = _unpack(counts)
    elif isinstance(counts, list | tuple) and all(type(c) is int for c in counts):
        runs = list(counts)
    else:
        raise ValueError(
            f"counts must be a list of runs or a text, got {counts!r:.60}."
        )
    if any(run < 0 for run in runs) or sum(runs) != sides[0] * sides[1]:
        raise ValueError(
            f"the runs of a mask of {sides[0]} x {sides[1]} pixels add up to "
            f"{sum(runs)}, or one is below 0: it was cut or its size is wrong."
        )
    return np.array(runs, dtype=np.int64)


def decode_run_lengths(rle: Any) -> np.ndarray:
    """Return the mask, (h, w) bool; see :func:`run_lengths`."""
    runs = run_lengths(rle)
    height, width = rle["size"]
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _unpack(text: str | bytes) -> list[int]:
    """Read COCO's compressed counts: 5 bits per character, differences from third."""
    data = text.encode("latin-1", "replace") if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        chunk = byte - 48
        if not 0 <= chunk < 64 or shift > 60:
            raise ValueError(f"counts hold {bytes([byte])!r}, which no mask has.")
        value |= (chunk & 31) << shift
        shift += 5
        if chunk & 32:
            continue
        if chunk & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("counts end inside a number: they were cut.")
    return runs
