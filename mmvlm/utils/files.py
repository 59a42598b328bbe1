"""Files that are whole or absent, and work that only one process does."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the error of the system behind an error of a library."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Name the file in what goes wrong while it is written inside a ``with``.

    Raises:
        OSError: saying which file cannot be written and why: a full disk, a limit, a
            read-only folder. Libraries hide that behind errors of their own.

    """
    try:
        yield
    except Exception as error:
        found = _system_error(error)
        if found is None or found.errno is None:
            raise
        reason = f"cannot write '{os.fspath(path)}': {os.strerror(found.errno)}."
        named = type(found)(reason)
        named.errno = found.errno
        raise named from error


def check_writable(folder: str | os.PathLike) -> None:
    """Create a folder and check that files can be written there.

    Raises:
        OSError: saying why not.

    """
    probe = Path(folder, f".writable-{os.getpid()}.tmp")
    with writing(folder):
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()


def write_atomic(path: str | os.PathLike, write: Any) -> None:
    """Let ``write(file)`` fill a file that appears under its name only when whole.

    Args:
        path (str | PathLike): final name; its folder is created.
        write (Callable): takes a binary file object.

    Raises:
        OSError: naming the file and the reason; nothing of it is left behind.

    """
    with writing(path):
        _write_atomic(Path(path), write)


def _write_atomic(path: Path, write: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{mark}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class FileLock:
    """A lock between processes, free again when its holder dies.

    Args:
        path (str | PathLike): an empty file, created; its folder must exist.

    Raises:
        OSError: when the file cannot be opened for writing.

    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        os.close(self._open())

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)

    @contextmanager
    def held(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock inside a ``with``; ``waiting`` is called if it is taken.

        On a file system without locks nobody waits: what is written under the lock
        must be written atomically all the same.
        """
        handle = self._open()
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:
                pass
            yield
        finally:
            os.close(handle)
