"""JSON lines that are opened in a moment and read when they are asked for."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

_CHUNK = 1 << 26


@dataclass(frozen=True)
class JSONLine:
    """One line of a file.

    Args:
        number (int): of the line, from 1.
        value (Any): what it holds; None when it is no JSON.
        reason (str | None): why it cannot be read, naming file and line.

    """

    number: int
    value: Any = None
    reason: str | None = None


class JSONLines:
    """A list of the lines of a file; keeps their places, not their contents.

    Blank lines are left out. Workers share nothing but the file, so a million
    rows cost each of them 16 MB.

    Args:
        path (str): a file with one JSON object per line.

    Raises:
        ValueError: naming the file, when it is empty, holds something else, or was
            cut inside its last line.

    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: int | None = None
        size = os.path.getsize(path)
        ends = np.append(_line_breaks(path), size)
        starts = np.append(0, ends[:-1] + 1)
        keep = ends - starts > 1  # no object is shorter than "{}"
        self._numbers = (np.flatnonzero(keep) + 1).astype(np.int32)
        self._starts, self._ends = starts[keep], ends[keep]
        head = self._bytes(0).lstrip(b"\xef\xbb\xbf \t") if len(self) else b""
        if not head.startswith(b"{"):
            found = f"starts with {head[:20]!r}" if head else "is empty"
            raise ValueError(
                f"annotation file '{path}' {found}; expected one JSON object per line."
            )
        if self._ends[-1] == size and self[len(self) - 1].reason:
            raise ValueError(
                f"annotation file: {self[len(self) - 1].reason} The file ends too "
                "early: it was cut; fetch or write it again."
            )

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, row: int) -> JSONLine:
        """Return a line; what cannot be read tells so in its ``reason``."""
        number = int(self._numbers[row])
        try:
            return JSONLine(number, json.loads(self._bytes(row).decode("utf-8-sig")))
        except UnicodeDecodeError as error:
            problem = f"is not UTF-8 text: {error.reason}"
        except json.JSONDecodeError as error:
            problem = f"is not valid JSON (column {error.colno}): {error.msg}"
        return JSONLine(number, reason=f"line {number} of '{self.path}' {problem}.")

    def _bytes(self, row: int) -> bytes:
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
        start, end = int(self._starts[row]), int(self._ends[row])
        return os.pread(self._file, end - start, start)  # no shared position

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if self.__dict__.get("_file") is not None:
            os.close(self._file)


def _line_breaks(path: str) -> np.ndarray:
    """Return the positions of all line breaks."""
    found, start = [], 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            places = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == 10)
            found.append(places.astype(np.int64) + start)
            start += len(chunk)
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)
