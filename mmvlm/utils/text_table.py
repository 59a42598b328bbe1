"""Aligned text tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


def text_table(
    rows: Sequence[Sequence[Any]], *, left: int = 1, rules: Collection[int] = ()
) -> str:
    """Return rows as aligned text, two spaces between columns.

    Args:
        rows (Sequence[Sequence]): equally long, the header first; cells are shown
            as ``str`` shows them.
        left (int): so many columns are aligned to the left, the others to the right.
        rules (Collection[int]): rows that a line of dashes stands before.

    Example:
        >>> print(text_table([("part", "lr"), ("connector", 0.001)], rules=[1]))
        part          lr
        ---------  -----
        connector  0.001
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for number, row in enumerate(cells):
        if number in rules:
            lines.append("  ".join("-" * width for width in widths))
        aligned = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)
