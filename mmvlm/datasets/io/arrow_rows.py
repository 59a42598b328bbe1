"""Rows of Arrow and Parquet files, read one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

#: What ends an Arrow stream: a message of no length.
_END = b"\xff" * 4 + bytes(4)
_KEPT_GROUPS = 4


class ArrowRows:
    """A list of the rows of several files with the same columns.

    Arrow files (``datasets``' ``save_to_disk``) are mapped: a row costs what it holds.
    Of a Parquet file a whole row group is decoded for one row, and the last few are
    kept: fine in the file's order, slow in random order where groups are large.

    Files are opened in every process for itself.

    Args:
        files (Sequence[str]): ``.arrow`` or ``.parquet`` files, in order.

    Raises:
        ValueError: naming the file, when one is cut, of another kind, or has other
            columns than the first.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = list(files)
        self._tables: dict[int, Any] = {}
        self._groups: dict[tuple, Any] = {}
        counts, schemas = [], []
        for number, path in enumerate(self.files):
            opened = self._opened(number)
            count = opened.num_rows if self._maps(path) else opened.metadata.num_rows
            counts.append(count)
            schemas.append(opened.schema if self._maps(path) else opened.schema_arrow)
        self.schema = schemas[0]
        for path, schema in zip(self.files, schemas, strict=True):
            if schema.names != self.schema.names:
                raise ValueError(
                    f"'{path}' has the columns {schema.names}, '{self.files[0]}' has "
                    f"{self.schema.names}."
                )
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @staticmethod
    def _maps(path: str) -> bool:
        return path.endswith(".arrow")

    def _opened(self, number: int) -> Any:
        """Return the table of an Arrow file, or an open Parquet file."""
        if number not in self._tables:
            import pyarrow as pa
            import pyarrow.parquet as pq

            path = self.files[number]
            try:
                if self._maps(path):
                    self._tables[number] = _mapped(path)
                else:
                    self._tables[number] = pq.ParquetFile(path, memory_map=True)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise ValueError(
                    f"'{path}' cannot be read: {error}. It is cut, damaged, or no "
                    f"{os.path.splitext(path)[1]} file; fetch or write it again."
                ) from error
        return self._tables[number]

    def labels(self, column: str) -> list[str] | None:
        """Return the names of a column of classes, None for another column."""
        raw = (self.schema.metadata or {}).get(b"huggingface")
        try:
            feature = json.loads(raw) if raw else {}
        except ValueError as error:
            raise ValueError(
                f"'{self.files[0]}': what it says of its columns is no JSON: {error}."
            ) from error
        for key in ("info", "features", column):
            feature = feature.get(key) if isinstance(feature, dict) else None
        named = isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        names = feature.get("names") if named else None
        return names if isinstance(names, list) else None

    def cells(self, row: int, columns: Sequence[str]) -> dict[str, Any]:
        """Return values of a row as Arrow scalars.

        Args:
            row (int): number of the row.
            columns (Sequence[str]): columns, or leaves of them (``image.path``).

        Raises:
            ValueError: naming the file, when the row cannot be decoded.
        """
        number = int(np.searchsorted(self._ends, row, side="right"))
        place = row - (int(self._ends[number - 1]) if number else 0)
        names = [column.partition(".")[0] for column in columns]
        try:
            opened = self._opened(number)
            if not self._maps(self.files[number]):
                opened, place = self._group(opened, number, place, tuple(columns))
            line = opened.select(list(dict.fromkeys(names))).slice(place, 1)
            # Arrow's C++ trusts offsets; a bad one ends the process.
            line.validate(full=True)
            return {name: line.column(name)[0] for name in names}
        except (OSError, ValueError, IndexError, KeyError) as error:
            reason = f"row {place} of '{self.files[number]}' cannot be read: {error}."
            raise ValueError(reason) from error

    def _group(
        self, file: Any, number: int, place: int, columns: tuple[str, ...]
    ) -> tuple[Any, int]:
        """Return the row group of a row, and the row's place in it."""
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if place < count:
                break
            place -= count
        key = (number, group, columns)
        table = self._groups.pop(key, None)
        if table is None:
            table = file.read_row_group(group, columns=list(columns))
            table.validate(full=True)
        self._groups[key] = table  # last used last
        if len(self._groups) > _KEPT_GROUPS:
            del self._groups[next(iter(self._groups))]
        return table, place

    def leaf_of(self, column: str) -> str:
        """Return the smallest part of an image column that tells what is null."""
        if self._maps(self.files[0]):
            return column
        leaves = self._opened(0).schema
        paths = [leaves.column(i).path for i in range(len(leaves))]
        own = [p for p in paths if p.startswith(f"{column}.") and p.endswith(".path")]
        return own[0] if own else column

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_tables": {}, "_groups": {}}


def _mapped(path: str) -> Any:
    """Return the table of an Arrow stream or file without reading its data."""
    import pyarrow as pa

    source = pa.memory_map(path)
    try:
        table = pa.ipc.open_stream(source).read_all()
        table.validate()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(pa.memory_map(path)).read_all()
    with open(path, "rb") as file:
        file.seek(-len(_END), os.SEEK_END)
        if file.read() != _END:
            raise ValueError("the stream has no end mark")
    return table
