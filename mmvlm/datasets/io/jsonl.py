"""JSON lines: one object per line, read when it is asked for."""

from __future__ import annotations

from typing import Any

from mmvlm.datasets.index.records import Describe, JSONLine, JSONRecords
from mmvlm.datasets.index.scanner import first_character, whole_object

__all__ = ["JSONLine", "JSONLines"]


class JSONLines(JSONRecords):
    """A list of the lines of a file; blank ones are left out.

    Args:
        path (str): a file with one JSON object per line.
        describe (Callable | None): see :class:`JSONRecords`.
        reader (Any): likewise.

    Raises:
        ValueError: naming the file, when it is empty, holds something else, or was
            cut inside its last line.
    """

    def __init__(
        self, path: str, *, describe: Describe | None = None, reader: Any = None
    ) -> None:
        first, head = first_character(path)
        if first != "{":
            found = f"starts with {head.encode()[:20]!r}" if first else "is empty"
            raise ValueError(
                f"annotation file '{path}' {found}; expected one JSON object per line."
            )
        super().__init__(path, "lines", describe=describe, reader=reader)
        whole = whole_object(path) if self.first_damaged == 0 else None
        if whole is not None:
            raise ValueError(whole)
        if self.is_cut:
            raise ValueError(
                f"annotation file: {self[len(self) - 1].reason} The file ends too "
                "early: it was cut; fetch or write it again."
            )
