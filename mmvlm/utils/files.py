"""Files that are whole or absent."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any


def write_atomic(path: str | os.PathLike, write: Any) -> None:
    """Let ``write(file)`` fill a file that appears under its name only when whole.

    Args:
        path (str | PathLike): final name; its folder is created.
        write (Callable): takes a binary file object.

    """
    path = Path(path)
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
