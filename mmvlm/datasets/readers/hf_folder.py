"""Reader of Hugging Face ``datasets`` on disk: Arrow folders and Parquet files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from mmvlm.datasets.io.arrow_rows import ArrowRows
from mmvlm.datasets.io.derived import DerivedRecords
from mmvlm.datasets.io.file_patterns import expand_files
from mmvlm.registry import DATASETS

from .columns import ColumnDataset

_PART = re.compile(r"^(.+?)(-\d+(-of-\d+)?)?\.parquet$")


@DATASETS.register_module()
class HFFolderDataset(ColumnDataset):
    """A dataset that ``datasets`` saved, or the Parquet files of one from the hub.

    Three layouts are known:

    - ``save_to_disk`` of a dataset: ``state.json``, ``dataset_info.json`` and
      ``data-<part>-of-<parts>.arrow``;
    - of a dictionary of them: ``dataset_dict.json`` and a folder per split;
    - Parquet: ``<split>-<part>-of-<parts>.parquet``, in the folder or in ``data``; or a
      file, or a pattern.

    Nothing is copied or converted, and the ``datasets`` package is not needed: Arrow
    files are mapped, so that a million rows are open at once and shared by all
    workers. Images are ``{"bytes", "path"}``, bytes, or paths below
    ``image_prefix``, one or a list of them; null is text alone. Numbers of a column
    of classes become their names.

    Args:
        ann_file (str): folder, file, or pattern (see :func:`expand_files`).
        columns (Mapping): see :class:`ColumnDataset`; a value is the name of a column.
        split (str | None): of a dictionary, or of Parquet files.
        name (str | None): None takes the stem of ``ann_file``.
        **kwargs: see :class:`ColumnDataset`.

    Raises:
        FileNotFoundError: when folder or files are missing.
        ValueError: naming a file that is cut or of another kind, splits that there
            are, or columns that there are.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        columns: Mapping[str, Any],
        split: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        root = kwargs.get("data_root") or ""
        self.split = split
        files = _files(root, ann_file, split)
        stem = os.path.splitext(os.path.basename(ann_file.rstrip("/")))[0]
        self.files = [os.path.join(root, file) for file in files]
        name = name or (f"{stem}-{split}" if split else stem)
        super().__init__(files[0], columns=columns, name=name, **kwargs)
        self.ann_file = os.path.join(root, ann_file)

    def _sources(self) -> list[str]:
        return self.files

    def _load_records(self) -> DerivedRecords:
        try:
            rows = ArrowRows(self.files)
        except ValueError as error:
            raise ValueError(f"dataset '{self.name}': {error}") from error
        needed = []
        for column in self.columns.values():
            needed += [column] if isinstance(column, str) else list(column)
        missing = sorted(set(needed) - set(rows.schema.names))
        if missing:
            raise ValueError(
                f"dataset '{self.name}': no columns {missing} in '{self.files[0]}'; it "
                f"has {rows.schema.names}."
            )
        self._texts = [c for c in needed if c != self.columns.get("image")]
        self._labels = {column: rows.labels(column) for column in self._texts}
        self._leaf, self._has_paths = None, False
        if self._has_image:
            self._leaf = rows.leaf_of(self.columns["image"])
            kind = rows.schema.field(self.columns["image"]).type
            self._has_paths = _is_text(kind.value_type if _is_list(kind) else kind)
        return DerivedRecords(rows, self._made)

    @property
    def _has_image(self) -> bool:
        return "image" in self.columns

    def _made(self, row: int) -> dict:
        record: dict[str, Any] = dict(row=row, cells={}, images=(), reason=None)
        needed = [*self._texts, self._leaf] if self._has_image else self._texts
        try:
            scalars = self._records.rows.cells(row, needed)
            values = {name: self._value(name, scalars[name]) for name in self._texts}
            if self._has_image:
                shown = scalars[self.columns["image"]]
                record["images"] = _references(row, shown)
        except ValueError as error:
            record["reason"] = str(error)
            return record
        for name, column in self.columns.items():
            if name == "meta":
                columns = [column] if isinstance(column, str) else column
                record["cells"]["meta"] = {one: values[one] for one in columns}
            elif name != "image":
                record["cells"][name] = values[column]
        return record

    def _value(self, name: str, scalar: Any) -> Any:
        value, labels = scalar.as_py(), self._labels[name]
        if labels is None or value is None:
            return value
        if not isinstance(value, int) or not 0 <= value < len(labels):
            raise ValueError(f"'{name}' is {value!r}, but has {len(labels)} classes.")
        return labels[value]

    def _image(self, key: Any) -> Any:
        if self._has_paths:
            return key
        row, number = map(int, key.split("#"))
        column = self.columns["image"]
        value = self._records.rows.cells(row, [column])[column].as_py()
        if isinstance(value, list):
            value = value[number]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if not isinstance(value, bytes | str) or not value:
            raise ValueError(
                f"'{column}' holds {value!r:.60}, expected bytes, a path, or both as "
                "{'bytes', 'path'}."
            )
        return value


def _references(row: int, scalar: Any) -> tuple[str, ...]:
    """Return a reference per image: its path, or row and number."""
    if not scalar.is_valid:
        return ()
    items = list(scalar) if _is_list(scalar.type) else [scalar]
    if items and _is_text(items[0].type):
        return tuple(item.as_py() for item in items if item.is_valid)
    return tuple(
        f"{row}#{number}" for number, item in enumerate(items) if item.is_valid
    )


def _is_list(kind: Any) -> bool:
    import pyarrow.types as kinds

    tests = (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list)
    return any(test(kind) for test in tests)


def _is_text(kind: Any) -> bool:
    import pyarrow.types as kinds

    return kinds.is_string(kind) or kinds.is_large_string(kind)


def _files(root: str, ann_file: str, split: str | None) -> list[str]:
    """Return the data files of a dataset, relative to ``root``."""
    folder = os.path.join(root, ann_file)
    if not os.path.isdir(folder):
        return expand_files(root, ann_file, (".parquet",))
    if os.path.isfile(os.path.join(folder, "dataset_dict.json")):
        splits = _load(os.path.join(folder, "dataset_dict.json"), "splits")
        if split not in splits:
            raise ValueError(f"'{folder}': split={split!r}, expected one of {splits}.")
        return _files(root, os.path.join(ann_file, str(split)), None)
    state = os.path.join(folder, "state.json")
    if os.path.isfile(state):
        listed = _load(state, "_data_files")
        names = [item.get("filename") for item in listed if isinstance(item, dict)]
        missing = [n for n in names if not os.path.isfile(os.path.join(folder, str(n)))]
        if missing or not names:
            raise FileNotFoundError(f"'{state}' lists {missing or names}, not there.")
        return [os.path.join(ann_file, name) for name in names]
    if os.path.isdir(os.path.join(folder, "data")):
        ann_file = os.path.join(ann_file, "data")
    found = expand_files(root, ann_file, (".parquet",))
    by_split: dict[str, list[str]] = {}
    for file in found:
        match = _PART.match(os.path.basename(file))
        by_split.setdefault(match[1] if match else file, []).append(file)
    if split is None and len(by_split) == 1:
        return found
    if split not in by_split:
        raise ValueError(
            f"'{folder}': split={split!r}, expected one of {sorted(by_split)}."
        )
    return by_split[split]


def _load(path: str, field: str) -> list:
    """Return a list in one of the small files beside the data."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
        listed = value[field]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' cannot be read: {error!r}.") from error
    if not isinstance(listed, list):
        raise ValueError(f"'{path}': '{field}' must be a list, got {listed!r:.60}.")
    return listed
