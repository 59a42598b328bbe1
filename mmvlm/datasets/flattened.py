"""Joined tables as rows on disk: written once, read one by one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from mmvlm.utils.files import write_atomic

from .jsonl import JSONLines


def cache_folder() -> str:
    """Return where rows and indices are kept: ``$MMVLM_CACHE``, or the user's cache."""
    default = os.path.join(os.path.expanduser("~"), ".cache", "mmvlm")
    return os.environ.get("MMVLM_CACHE") or default


def flatten_once(
    sources: Iterable[str],
    flatten: Callable[[], Iterable[dict]],
    *,
    kind: str,
    options: dict | None = None,
    name: str = "",
) -> JSONLines:
    """Return the rows of ``flatten()``, which is called when no cache fits.

    Args:
        sources (Iterable[str]): files that the rows are made of; the cache is
            dropped when one changes its size or time.
        flatten (Callable): yields rows.
        kind (str): reader and version of its rows.
        options (dict | None): options of the reader that change its rows.
        name (str): of the data set, for messages.

    Raises:
        ValueError: when there is no row.

    """
    key = [kind, options or {}]
    for path in sources:
        facts = os.stat(path)
        key.append([os.path.abspath(path), facts.st_size, facts.st_mtime_ns])
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    path = os.path.join(cache_folder(), "rows", f"{digest}.jsonl")
    if not os.path.isfile(path):
        count = 0

        def write(file: Any) -> None:
            nonlocal count
            for row in flatten():
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
                count += 1
            if not count:
                raise ValueError(f"no record in {list(sources)} ({options or {}}).")

        write_atomic(path, write)
    return JSONLines(path)
