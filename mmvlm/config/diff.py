"""What differs between two configs, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Stands for a key that one of the two does not have.
ABSENT = type("Absent", (), {"__repr__": lambda self: "<absent>"})()


@dataclass(frozen=True)
class Difference:
    """One dotted path whose values differ.

    Args:
        path (str): dotted path.
        left, right (Any): the two values, ``ABSENT`` where there is none.
    """

    path: str
    left: Any
    right: Any

    def __str__(self) -> str:
        if self.left is ABSENT:
            return f"+ {self.path} = {self.right!r}"
        if self.right is ABSENT:
            return f"- {self.path} = {self.left!r}"
        return f"~ {self.path}: {self.left!r} -> {self.right!r}"


def diff_configs(left: Any, right: Any) -> list[Difference]:
    """Return the differences of two merged configs, in the order of ``left``.

    Args:
        left (mmengine.Config | dict): the first config.
        right (mmengine.Config | dict): the second.
    """
    old, new = dict(_leaves(left)), dict(_leaves(right))
    paths = [*old, *(path for path in new if path not in old)]
    return [
        Difference(path, old.get(path, ABSENT), new.get(path, ABSENT))
        for path in paths
        if not _same(old.get(path, ABSENT), new.get(path, ABSENT))
    ]


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and left == right


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    items = None
    if isinstance(value, dict) or hasattr(value, "filename"):
        items = [(str(k), v) for k, v in value.items() if not str(k).startswith("_")]
    elif isinstance(value, (list, tuple)) and any(
        isinstance(item, (dict, list, tuple)) for item in value
    ):
        items = [(str(i), v) for i, v in enumerate(value)]
    if not items:
        yield path, list(value) if isinstance(value, tuple) else value
        return
    for key, item in items:
        yield from _leaves(item, f"{path}.{key}" if path else key)
