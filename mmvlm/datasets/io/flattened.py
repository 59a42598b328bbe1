"""Joined tables as rows on disk: written once, read one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from mmvlm.datasets.index.arrays import (
    Progress,
    cache_folders,
    digest_of,
    say,
    source_facts,
)
from mmvlm.datasets.index.arrays import cache_folder as cache_folder
from mmvlm.datasets.index.records import Describe
from mmvlm.utils.files import FileLock, write_atomic

from .jsonl import JSONLines


def flatten_once(
    sources: Iterable[str],
    flatten: Callable[[], Iterable[dict]],
    *,
    kind: str,
    options: dict | None = None,
    name: str = "",
    describe: Describe | None = None,
) -> JSONLines:
    """Return the rows of ``flatten()``, which is called when no cache fits.

    Rows go to disk one by one. Of several processes one writes them and the others
    wait; a file that was cut or changed afterwards is written anew.

    Args:
        sources (Iterable[str]): files that the rows are made of; the cache is
            dropped when one changes.
        flatten (Callable): yields rows.
        kind (str): reader and version of its rows.
        options (dict | None): options of the reader that change its rows.
        name (str): of the dataset, for messages.
        describe (Callable | None): see :class:`JSONRecords`.

    Raises:
        ValueError: when there is no row.
        OSError: when rows can be written to no cache folder.
    """
    sources = list(sources)
    key = [kind, options or {}, [source_facts(path) for path in sources]]
    label = f"rows of dataset '{name}'" if name else f"rows of {sources}"
    path = _written(digest_of(key), flatten, label, f"{sources} ({options or {}})")
    return JSONLines(path, describe=describe, reader=key[:2])


def _written(
    digest: str, flatten: Callable[[], Iterable[dict]], label: str, where: str
) -> str:
    """Return a file of rows that is whole, writing it where there is none."""
    names = [os.path.join(f, "rows", f"{digest}.jsonl") for f in cache_folders()]
    for path in names:
        if _is_whole(path):
            return path
    refused: OSError | None = None
    for path in names:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            lock = FileLock(f"{path}.lock")
        except OSError as error:
            refused = error
            continue
        with lock.acquire(lambda: say(f"{label}: waits for the process that writes.")):
            if _is_whole(path):
                return path
            if os.path.exists(path):
                say(f"{label}: '{path}' is damaged; it is written anew.")
            _write(path, flatten, label, where)
        return path
    raise OSError(f"{label}: cannot be kept in any of {names}.") from refused


def _write(
    path: str, flatten: Callable[[], Iterable[dict]], label: str, where: str
) -> None:
    progress, count = Progress(label, 0, "rows"), 0

    def write(file: Any) -> None:
        nonlocal count
        for row in flatten():
            file.write(_line_of(row))
            count += 1
            if not count % 1024:
                progress.at(0, count)
        if not count:
            raise ValueError(f"no record in {where}.")

    write_atomic(path, write)
    facts = json.dumps(source_facts(path)[1:]).encode()
    write_atomic(f"{path}.facts", facts)


def _line_of(row: dict) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair can only be escaped
        return json.dumps(row).encode() + b"\n"


def _is_whole(path: str) -> bool:
    """Whether a file of rows is as it was when it was written."""
    try:
        with open(f"{path}.facts", "rb") as file:
            return json.loads(file.read()) == source_facts(path)[1:]
    except (OSError, ValueError):
        return False
