"""Arrays that are made once, kept on disk and memory-mapped by every process.

A set of arrays has a place (what it is made of and how) and a stamp (the state of
its source). It is used when its stamp is the wanted one and its bytes are whole;
else one process makes it anew while the others wait.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmvlm.utils.files import FileLock, write_atomic

#: Goes up with every change of what stands on disk.
_FORMAT = 1
_TABLE = "table.json"
_EDGE = 1 << 16
_BLOCK = 1 << 20

Build = Callable[[], tuple[dict[str, np.ndarray], dict]]


def cache_folder() -> str:
    """Return where rows and indices are kept: ``$MMVLM_CACHE``, or the user's cache."""
    default = os.path.join(os.path.expanduser("~"), ".cache", "mmvlm")
    return os.environ.get("MMVLM_CACHE") or default


def cache_folders() -> list[str]:
    """Return where to keep things, best first: the second is for read-only media."""
    user = f"mmvlm-{os.getuid()}"
    return [cache_folder(), os.path.join(tempfile.gettempdir(), user)]


def source_facts(path: str) -> list:
    """Return what tells a file's state: path, size, time, hash of head and tail."""
    found = os.stat(path)
    facts = [os.path.abspath(path), found.st_size, found.st_mtime_ns]
    if os.path.isfile(path):
        with open(path, "rb") as file:
            digest = sha256(file.read(_EDGE))
            file.seek(max(0, found.st_size - _EDGE))
            digest.update(file.read(_EDGE))
        facts.append(digest.hexdigest()[:24])
    return facts


def digest_of(value: Any) -> str:
    """Return a short hash of a JSON-able value."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


class Progress:
    """Log lines every few seconds of long work.

    Args:
        label (str): what is done.
        total (int): steps (bytes, records) of the whole; 0 when it is not known.
        unit (str): of what is counted.
    """

    every: float = 5.0

    def __init__(self, label: str, total: int, unit: str = "records") -> None:
        self.label, self.total, self.unit = label, total, unit
        self._start = self._last = time.monotonic()
        self.reported = False

    def at(self, done: int, count: int) -> None:
        """Tell that so many steps are done, which gave so many things."""
        now = time.monotonic()
        if now - self._last < self.every:
            return
        self._last, self.reported = now, True
        if not self.total:
            say(f"{self.label}: {count} {self.unit}.")
            return
        share = min(1.0, done / self.total)
        left = (now - self._start) * (1 - share) / max(share, 1e-3)
        say(
            f"{self.label}: {100 * share:.0f} % ({count} {self.unit}), about "
            f"{left:.0f} s left."
        )


def say(message: str, level: int = logging.INFO) -> None:
    """Log a line."""
    print_log(message, logger="current", level=level)


class Arrays:
    """Named arrays, mapped from disk where they are kept there.

    Copies (pickles, for workers that are spawned) carry the place and map the same
    files again; arrays without a place travel themselves.

    Args:
        arrays (dict[str, np.ndarray]): by name.
        notes (dict): JSON-able facts beside them.
        folder (str | None): where they lie; None when they are in memory only.
    """

    def __init__(
        self, arrays: dict[str, np.ndarray], notes: dict, folder: str | None = None
    ) -> None:
        self.arrays, self.notes, self.folder = arrays, notes, folder
        self._files: dict[str, str] = {}

    @classmethod
    def open(cls, folder: str, stamp: Any) -> Arrays:
        """Map what lies in a folder.

        Raises:
            ValueError: saying why, when it is for another state of the source,
                foreign or damaged.
            FileNotFoundError: when there is nothing.
        """
        with open(os.path.join(folder, _TABLE), "rb") as file:
            try:
                table = json.loads(file.read())
                files = {name: facts[0] for name, facts in table["arrays"].items()}
                sums = {name: facts[1] for name, facts in table["arrays"].items()}
                known, form = table["stamp"], table["format"]
                notes = table["notes"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError("its table is damaged") from error
        if form != _FORMAT or known != json.loads(json.dumps(stamp)):
            raise ValueError("it was made of another state of the file, or the code")
        result = cls({}, notes, folder)
        result._files = files
        for name in files:
            path = os.path.join(folder, os.path.basename(files[name]))
            if not os.path.isfile(path) or _checksum(path) != sums[name]:
                raise ValueError(f"its array '{name}' is damaged")
        try:
            result._map()
        except (ValueError, OSError, EOFError, OverflowError, MemoryError) as error:
            raise ValueError(f"an array cannot be mapped ({error})") from error
        return result

    def expect(self, count: int, **forms: tuple[str, int]) -> None:
        """Check what the arrays are before anything is read through them.

        Args:
            count (int): rows of every array.
            **forms (tuple[str, int]): dtype and columns by name; 0 columns for an
                array of one dimension. Arrays that are not there are not checked.

        Raises:
            ValueError: naming the array that is another one.
        """
        for name, (dtype, columns) in forms.items():
            array = self.arrays.get(name)
            shape = (count, columns) if columns else (count,)
            if array is not None and (array.dtype != dtype or array.shape != shape):
                raise ValueError(
                    f"its array '{name}' is {array.dtype}{list(array.shape)}, not "
                    f"{dtype}{list(shape)}"
                )

    def _map(self) -> None:
        for name, file in self._files.items():
            path = os.path.join(self.folder, os.path.basename(file))
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            self.arrays[name] = mapped.view(np.ndarray)

    def keep(self, folder: str, stamp: Any) -> Arrays:
        """Write the arrays, then the table that names them; return them mapped.

        What a table names is never changed: another process may be using it.
        """
        mark = f"{time.time_ns():x}-{os.getpid()}"
        table: dict[str, Any] = dict(format=_FORMAT, stamp=stamp, notes=self.notes)
        table["arrays"] = {}
        for name, array in self.arrays.items():
            file = f"{name}-{mark}.npy"
            path = os.path.join(folder, file)
            write_atomic(path, lambda out, array=array: np.save(out, array))
            table["arrays"][name] = [file, _checksum(path)]
        content = json.dumps(table, indent=1).encode()
        write_atomic(os.path.join(folder, _TABLE), content)
        named = {facts[0] for facts in table["arrays"].values()}
        for file in set(os.listdir(folder)) - named - {_TABLE}:
            if os.path.isfile(os.path.join(folder, file)):
                os.unlink(os.path.join(folder, file))
        try:
            return Arrays.open(folder, stamp)
        except ValueError as error:
            raise OSError(f"what was written cannot be read: {error}") from error

    def __getitem__(self, name: str) -> np.ndarray:
        """Return an array; not to be written to."""
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getstate__(self) -> dict:
        arrays = {} if self.folder is not None else self.arrays
        return {**self.__dict__, "arrays": arrays}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if self.folder is not None:
            try:
                self._map()
            except FileNotFoundError as error:
                raise RuntimeError(
                    f"the index in '{self.folder}' was made anew by another process: "
                    "its source changed while it was in use. Start again."
                ) from error


def kept_arrays(
    kind: str,
    place: Any,
    stamp: Any,
    build: Build,
    *,
    label: str,
    check: Callable[[Arrays], None] = lambda kept: None,
) -> Arrays:
    """Return arrays from disk, or make and keep them, one process for all.

    Args:
        kind (str): folder below the cache folder.
        place (Any): JSON-able: what the arrays are of; newer ones take the place of
            older ones.
        stamp (Any): JSON-able: what they must have been made of and by.
        build (Callable): returns arrays and notes.
        label (str): what they are, for messages.
        check (Callable): raises an error for kept arrays that cannot be used.
    """

    def opened(folder: str) -> Arrays:
        kept = Arrays.open(folder, stamp)
        try:
            check(kept)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{error}") from error
        return kept

    tail = os.path.join(kind, digest_of(place))
    places = [os.path.join(root, tail) for root in cache_folders()]
    for folder in places:
        try:
            return opened(folder)
        except (OSError, ValueError):
            continue
    made: Arrays | None = None
    for folder in places:
        try:
            os.makedirs(folder, exist_ok=True)
            lock = FileLock(f"{folder}.lock")
        except OSError as error:
            say(f"{label}: cannot be kept in '{folder}': {error}.", logging.WARNING)
            continue
        waiting = f"{label}: waits for the process that makes it."
        with lock.acquire(partial(say, waiting)):
            try:
                return opened(folder)
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                say(f"{label}: the kept one is not used, {error}; it is made anew.")
            made = Arrays(*build()) if made is None else made
            try:
                return made.keep(folder, stamp)
            except OSError as error:
                say(f"{label}: cannot be kept in '{folder}': {error}.", logging.WARNING)
    return Arrays(*build()) if made is None else made


def _checksum(path: str) -> int:
    """Return the CRC of a file, read in blocks: mapped pages would stay in memory."""
    value = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value
