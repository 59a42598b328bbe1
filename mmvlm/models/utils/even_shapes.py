"""Few different shapes: CPUs compile a matrix product for each.

oneDNN, which multiplies matrices in bfloat16 on a CPU, writes machine code for every
shape that it meets and keeps the code of the last thousand. Batches of another number
of tokens at every step then take three times as long and a GiB of memory more. Rows
are therefore filled up to a multiple of a few: zeros go in, and what comes out of them
is cut away, so that no number that counts is another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

#: Positions of a sample, and rows of a matrix, are filled up to a multiple of these.
POSITIONS = 8
ROWS = 256


def round_up(number: int, step: int) -> int:
    """Return the least multiple of ``step`` that is not below ``number``."""
    return -(-number // step) * step


def fill_rows(rows: torch.Tensor, step: int = 128) -> torch.Tensor:
    """Repeat the last row on a CPU, until their number is a multiple of ``step``.

    Shape:
        - ``rows``: (R, ...), R > 0
        - output: (R', ...)
    """
    missing = round_up(len(rows), step) - len(rows)
    if not missing or rows.device.type != "cpu":
        return rows
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


def on_even_rows(
    run: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, step: int = ROWS
) -> torch.Tensor:
    """Apply what treats every row alone, to a number of rows that is often seen.

    On other devices than CPUs, ``run`` gets the rows as they are.

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
    if not missing or rows.device.type != "cpu":
        return run(rows)
    return run(torch.nn.functional.pad(rows, (0, 0, 0, missing)))[:count]
