"""Few different shapes: CPUs compile a matrix product for each.

oneDNN, which multiplies matrices in bfloat16 on a CPU, writes machine code for every
shape that it meets and keeps the code of the last thousand. Batches of another number
of tokens at every step then take three times as long and a GiB of memory more. There,
rows are filled up to the next multiple of some number, and what comes out of them is
cut away, so that no number that counts is another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from mmvlm.utils.precision import narrow_dtype

#: Positions of a sample, and rows of a matrix, are filled up to a multiple of these.
POSITIONS = 8
ROWS = 256


def round_up(number: int, step: int) -> int:
    """Return the least multiple of ``step`` that is not below ``number``."""
    return -(-number // step) * step


def few_shapes(tensor: torch.Tensor) -> bool:
    """Whether products of this tensor are compiled for each shape."""
    return narrow_dtype(tensor) is not None


def fill_rows(rows: torch.Tensor, step: int = 128) -> torch.Tensor:
    """Repeat the last row until there are a multiple of ``step``, where that helps.

    Shape:
        - ``rows``: (R, ...), R > 0
        - output: (R', ...)
    """
    missing = round_up(len(rows), step) - len(rows)
    if not missing or not few_shapes(rows):
        return rows
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


def on_even_rows(
    run: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, step: int = ROWS
) -> torch.Tensor:
    """Apply what treats rows one by one, with zeros to fill up where that helps.

    Args:
        run (Callable): (R', D) to (R', D').
        rows (torch.Tensor): what it is applied to.
        step (int): R' is a multiple of it.

    Shape:
        - ``rows``: (R, D)
        - output: (R, D')
    """
    count = len(rows)
    missing = round_up(count, step) - count
    if not missing or not few_shapes(rows):
        return run(rows)
    return run(torch.nn.functional.pad(rows, (0, 0, 0, missing)))[:count]
