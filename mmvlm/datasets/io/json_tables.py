"""Whole JSON files of public sets, and their fields, with errors that say where."""

from __future__ import annotations

import os
from typing import Any

from .annotation_files import need, read_json


def load_table(path: str, kind: type, *tables: str) -> Any:
    """Return what a JSON file holds.

    Args:
        path (str): the file.
        kind (type): ``dict`` or ``list``: what its outermost value must be.
        *tables (str): keys that the outermost object must have, each a list.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: naming the file, when it is empty, cut, no UTF-8 text, no JSON,
            or holds something else.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"annotation file '{path}' does not exist.")
    value = read_json(path, kind)
    for name in tables:
        if not isinstance(value.get(name), list):
            raise ValueError(
                f"annotation file '{path}': expected a list '{name}', it has "
                f"{sorted(map(str, value))[:12]}."
            )
    return value


def record_of(value: Any) -> dict:
    """Return a record.

    Raises:
        ValueError: when it is no JSON object.
    """
    if not isinstance(value, dict):
        raise ValueError(
            f"expected a record (JSON object), got {type(value).__name__} "
            f"{value!r:.80}."
        )
    return value


def texts_of(record: dict, field: str) -> list[str]:
    """Return a list of texts.

    Raises:
        ValueError: naming the field, when it is missing or something else.
    """
    value = need(record, field, list)
    if not all(isinstance(text, str) for text in value):
        raise ValueError(f"'{field}' must be a list of texts, got {value!r:.80}.")
    return value


def key_of(record: dict, field: str) -> int | str:
    """Return an id: a whole number or a text that is not blank.

    Raises:
        ValueError: naming the field, when it is missing or something else.
    """
    value = need(record, field, (int, str))
    if isinstance(value, str) and not value.strip():
        raise ValueError(f"'{field}' is an empty text, expected an id.")
    return value


def index_of(record: dict, field: str, size: int) -> int:
    """Return a place in a list of ``size`` things.

    Raises:
        ValueError: naming the field, when it is missing, no number or outside.
    """
    value = need(record, field, int)
    if not 0 <= value < size:
        raise ValueError(f"'{field}' must lie in 0..{size - 1}, got {value!r:.40}.")
    return value


def others_of(record: dict, *used: str) -> dict:
    """Return the fields that nobody read, to be kept beside the sample."""
    return {key: value for key, value in record.items() if key not in used}
