"""Records that a reader makes of rows when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any


class DerivedRecords:
    """A list of records; row ``n`` of another list is read by number.

    Args:
        rows (Sized): what the records are made of.
        make (Callable): gives the record of a number; must not fail on damage.
    """

    def __init__(self, rows: Sized, make: Callable[[int], Any]) -> None:
        self.rows: Any = rows
        self._make = make

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        """Return the record of a row."""
        return self._make(row)
