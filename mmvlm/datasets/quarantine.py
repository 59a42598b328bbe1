"""The file of samples that runs leave out."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from dataclasses import asdict
from typing import Any

from mmengine.logging import print_log


class QuarantineFile:
    """JSON lines of samples to leave out; safe for many writers.

    Lines with a field ``by`` (the dataset doctor's, or a person's) are a decision
    taken before; those that a run adds have none and go on to count against its limit.

    Args:
        path (str): created at the first failure.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._listed: dict[tuple[str, int, str], tuple[str, bool]] = {}
        self._read_size = -1
        self.refresh()

    def refresh(self) -> None:
        """Read the file again if it grew; damaged lines are counted and logged."""
        size = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        if size == self._read_size:
            return
        self._read_size, damaged = size, 0
        if size == 0:
            return
        with open(self.path, encoding="utf-8", errors="replace") as file:
            for line in filter(str.strip, file):
                try:
                    row = json.loads(line)
                    key = (row["dataset"], int(row["index"]), str(row["id"]))
                    self._listed[key] = (str(row["reason"]), bool(row.get("by")))
                except (ValueError, KeyError, TypeError):
                    damaged += 1
        if damaged:
            print_log(
                f"{self.path}: {damaged} damaged line(s) left unread.",
                logger="current",
                level=logging.WARNING,
            )

    def reason(self, dataset: str, index: int, sample_id: str) -> str | None:
        """Return why a sample is listed, None when it is not."""
        return self._listed.get((dataset, index, sample_id), (None, False))[0]

    def is_decided(self, dataset: str, index: int, sample_id: str) -> bool:
        """Whether a person or tool, and not a run that met it, listed a sample."""
        return self._listed.get((dataset, index, sample_id), (None, False))[1]

    def append(self, record: Any) -> None:
        """Add one line, once, even when several processes meet the sample.

        Args:
            record (BadRecord): of the sample.
        """
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        row = asdict(record)
        del row["kind"], row["limited"]
        line = (json.dumps(row) + "\n").encode()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self.refresh()
            if self.reason(record.dataset, record.index, record.id) is not None:
                return
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # a writer was killed inside its line
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
        self.refresh()
