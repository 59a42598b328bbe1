"""The records of a JSON file, read one by one through an index of their places."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .arrays import Arrays, Progress, kept_arrays, say, source_facts
from .scanner import Scanned, read_value, scan_lines, scan_list

#: Goes up with every change of what the arrays mean.
INDEX_VERSION = 1
#: Smaller files are read anew every time: that takes a moment, and a cache full of
#: tiny folders serves nobody.
SMALL_FILE = 1 << 20

#: Bits of ``flags``.
DAMAGED, IMAGE, IMAGES, MEDIA, TURNS = 1, 2, 4, 8, 16


@dataclass(frozen=True)
class JSONLine:
    """One record of a file.

    Args:
        number (int): of the line (of the record in a JSON list), from 1.
        value (Any): what it holds; None when it is no JSON.
        reason (str | None): why it cannot be read, naming file and line.
    """

    number: int
    value: Any = None
    reason: str | None = None


class RecordFacts(NamedTuple):
    """What the index knows of all records without reading them.

    Args:
        flags (np.ndarray): (N,) uint8: ``DAMAGED`` (no JSON), ``IMAGE``,
            ``IMAGES`` (several), ``MEDIA`` (other inputs), ``TURNS`` (more than
            one question).
        words (np.ndarray): (N,) int32.
        kinds (np.ndarray): (N,) uint16, indices into ``names``.
        names (tuple[str, ...]): what records hold: ``text``, ``image``, ...
    """

    flags: np.ndarray
    words: np.ndarray
    kinds: np.ndarray
    names: tuple[str, ...]


#: Gives flags, kind and word count of a record.
Describe = Callable[[JSONLine], tuple[int, str, int]]


def collect_facts(described: Iterator[tuple[int, str, int]]) -> RecordFacts:
    """Put flags, kinds and word counts of records into arrays."""
    flags, words, kinds = array("B"), array("i"), array("H")
    names: dict[str, int] = {}
    for flag, kind, count in described:
        flags.append(flag)
        kinds.append(names.setdefault(kind, len(names)))
        words.append(min(count, 2**31 - 1))
    return RecordFacts(
        np.asarray(flags, np.uint8),
        np.asarray(words, np.int32),
        np.asarray(kinds, np.uint16),
        tuple(names),
    )


class JSONRecords:
    """The records of a JSON list or of JSON lines, parsed when they are asked for.

    The first opening reads the whole file once; what it finds is kept in memory
    mapped arrays (``spans``, ``flags``, ``words``, ``kinds``), so that later ones
    and all workers share it. An index made of another state of the file, by other
    code, or damaged, is made anew.

    Args:
        path (str): the file.
        form (str): ``list`` or ``lines`` (blank ones are left out).
        describe (Callable | None): gives flags, kind and words of a record; None
            keeps places only.
        reader (Any): JSON-able: reader, version and options that ``describe``
            depends on.

    Raises:
        ValueError: naming the file, when a list is damaged or cut.
        RuntimeError: when the file changes while it is indexed or used.
    """

    def __init__(
        self,
        path: str,
        form: str,
        *,
        describe: Describe | None = None,
        reader: Any = None,
    ) -> None:
        self.path, self.form = path, form
        self._handle: int | None = None
        self._source = source_facts(path)
        label = f"index of '{path}'"

        def build() -> tuple[dict[str, np.ndarray], dict]:
            made = self._build(describe, label)
            if source_facts(path) != self._source:
                raise RuntimeError(f"'{path}' changed while it was indexed.")
            return made

        if self._source[1] < SMALL_FILE:
            self._arrays = Arrays(*build())
        else:
            place = [os.path.abspath(path), form, reader]
            stamp = [INDEX_VERSION, self._source, form, reader]
            self._arrays = kept_arrays(
                "index", place, stamp, build, label=label, check=self._check
            )

    def _build(
        self, describe: Describe | None, label: str
    ) -> tuple[dict[str, np.ndarray], dict]:
        scanned = (scan_list if self.form == "list" else scan_lines)(self.path)
        progress = Progress(label, self._source[1])
        spans, numbers, count = array("q"), array("i"), 0

        def described() -> Iterator[tuple[int, str, int]]:
            nonlocal count
            for found in scanned:
                spans.append(found.start)
                spans.append(found.end)
                count += 1
                if numbers or found.number != count:
                    if not numbers:  # the first blank line: from now on they count
                        numbers.extend(range(1, count))
                    numbers.append(found.number)
                if not count % 1024:
                    progress.at(found.end, count)
                line = self._line(found)
                facts = (0, "", 0) if describe is None else describe(line)
                flags = DAMAGED if found.problem is not None else 0
                yield facts[0] | flags, facts[1], facts[2]

        facts = collect_facts(described())
        damaged = np.flatnonzero(facts.flags & DAMAGED)
        arrays = dict(
            spans=np.asarray(spans, np.int64).reshape(-1, 2),
            flags=facts.flags,
            words=facts.words,
            kinds=facts.kinds,
        )
        if numbers:
            arrays["numbers"] = np.asarray(numbers, np.int32)
        notes = dict(
            names=list(facts.names),
            described=describe is not None,
            count=count,
            damaged=len(damaged),
            first_damaged=int(damaged[0]) if len(damaged) else None,
        )
        if progress.reported:
            say(f"{label}: done, {count} records.")
        return arrays, notes

    def _check(self, kept: Arrays) -> None:
        """Refuse an index that leads out of the file, or that is no index."""
        notes, spans = kept.notes, kept["spans"]
        count, names, first = notes["count"], notes["names"], notes["first_damaged"]
        forms = dict(spans=("int64", 2), flags=("uint8", 0), words=("int32", 0))
        kept.expect(count, **forms, kinds=("uint16", 0), numbers=("int32", 0))
        flags, kinds = kept["flags"], kept["kinds"]
        damaged = flags & DAMAGED
        if (int(damaged.argmax()) if damaged.any() else None) != first:
            raise ValueError("its notes do not fit its arrays")
        if not isinstance(notes["described"], bool) or len(kept["words"]) != count:
            raise ValueError("its notes do not fit its arrays")
        if count and not (
            (spans[:, 0] <= spans[:, 1]).all()
            and (spans[1:, 0] >= spans[:-1, 1]).all()
            and spans[0, 0] >= 0
            and spans[-1, 1] <= self._source[1]
            and kinds.max() < len(names)
        ):
            raise ValueError("its array 'spans' or 'kinds' leads out of the file")

    def _line(self, found: Scanned) -> JSONLine:
        if found.problem is None:
            return JSONLine(found.number, found.value)
        return JSONLine(found.number, reason=self._reason(found.number, found.problem))

    def _reason(self, number: int, problem: str) -> str:
        what = "line" if self.form == "lines" else "record"
        return f"{what} {number} of '{self.path}' {problem}."

    @property
    def facts(self) -> RecordFacts | None:
        """What is known of all records without reading them; None if not described."""
        if not self._arrays.notes["described"]:
            return None
        arrays, names = self._arrays, tuple(self._arrays.notes["names"])
        return RecordFacts(arrays["flags"], arrays["words"], arrays["kinds"], names)

    @property
    def first_damaged(self) -> int | None:
        """The first record that cannot be read."""
        return self._arrays.notes["first_damaged"]

    @property
    def is_cut(self) -> bool:
        """Whether the last line is damaged and has no line break behind it."""
        if not len(self) or self._arrays["spans"][-1, 1] != self._source[1]:
            return False
        return bool(self._arrays["flags"][-1] & DAMAGED)

    def __len__(self) -> int:
        return self._arrays.notes["count"]

    def __getitem__(self, row: int) -> JSONLine:
        """Return a record; what cannot be read tells so in its ``reason``."""
        start, end = self._arrays["spans"][row].tolist()
        value, problem = read_value(os.pread(self._open(), end - start, start))
        number = row % len(self) + 1
        if "numbers" in self._arrays:
            number = int(self._arrays["numbers"][row])
        return self._line(Scanned(start, end, number, value, problem))

    def _open(self) -> int:
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDONLY)
            found = os.fstat(self._handle)
            same = [found.st_size, found.st_mtime_ns] == self._source[1:3]
            # A file that was only copied anew is still the one that was indexed.
            now = source_facts(self.path)
            if not same and (now[1], now[3]) != (self._source[1], self._source[3]):
                raise RuntimeError(
                    f"'{self.path}' changed after it was opened. Start again."
                )
        return self._handle

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_handle": None}

    def __del__(self, close: Callable = os.close) -> None:  # `os` may be gone by then
        if self.__dict__.get("_handle") is not None:
            close(self._handle)
