"""One name for several files: folders, stars and ranges in braces."""

from __future__ import annotations

import glob
import os
import re

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LIST = re.compile(r"\{([^{}]*,[^{}]*)\}")
_MOST = 1_000_000


def expand_files(root: str, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the files that a pattern means, relative to ``root``, sorted by number.

    Args:
        root (str): folder that the pattern is relative to.
        pattern (str): a file, a folder (its files with one of the suffixes), a
            pattern with ``*`` or ``?``, or with braces: ``{000..012}``, ``{a,b}``.
        suffixes (tuple[str, ...]): of a folder's files, ``.tar``.

    Raises:
        FileNotFoundError: when nothing is found, or a file of a range is missing.
        ValueError: for a range that runs backwards.
    """
    if os.path.isdir(os.path.join(root, pattern)):
        found = [
            os.path.join(pattern, name)
            for name in os.listdir(os.path.join(root, pattern))
            if name.endswith(suffixes)
        ]
        if not found:
            raise FileNotFoundError(
                f"folder '{os.path.join(root, pattern)}' has no file that ends with "
                f"{' or '.join(suffixes)}."
            )
        return sorted(found, key=_natural)
    names: list[str] = []
    for name in _braces(pattern):
        if glob.has_magic(name):
            inside = glob.glob(name, root_dir=root or os.curdir)
            if not inside:
                raise FileNotFoundError(
                    f"no file matches '{os.path.join(root, name)}'."
                )
            names += sorted(inside, key=_natural)
        else:
            names.append(name)
    missing = [n for n in names if not os.path.isfile(os.path.join(root, n))]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} files of '{os.path.join(root, pattern)}' "
            f"do not exist, for example '{missing[0]}'."
        )
    return names


def _natural(name: str) -> list:
    """Sort 2 before 10."""
    return [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", name)]


def _braces(pattern: str) -> list[str]:
    found = _RANGE.search(pattern)
    if found:
        first, last = int(found[1]), int(found[2])
        if not first <= last < first + _MOST:
            raise ValueError(f"'{pattern}': the range {found[0]} runs backwards.")
        width = len(found[1])
        inner = [f"{number:0{width}d}" for number in range(first, last + 1)]
    else:
        found = _LIST.search(pattern)
        if not found:
            return [pattern]
        inner = found[1].split(",")
    before, behind = pattern[: found.start()], pattern[found.end() :]
    return [name for middle in inner for name in _braces(before + middle + behind)]
