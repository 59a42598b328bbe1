"""Reader of WebDataset's tar shards, with random access."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmvlm.datasets.annotated import DAMAGED
from mmvlm.datasets.io.derived import DerivedRecords
from mmvlm.datasets.io.file_patterns import expand_files
from mmvlm.datasets.io.flattened import flatten_once
from mmvlm.datasets.io.tar_shards import ShardFiles, scan_shard
from mmvlm.registry import DATASETS

from .columns import ColumnDataset

_IMAGES = "jpg;jpeg;png;webp;bmp;gif;ppm"
_VERSION = 1


@DATASETS.register_module()
class WebShardDataset(ColumnDataset):
    """Samples in tar shards: ``00012.tar`` with ``000120007.jpg``, ``.txt``, ``.json``.

    Members that share the name up to its first dot are one sample. The places of all
    members are kept in a cache, so that any sample is read with one ``pread`` per
    member; nothing is unpacked, shards are never read through again, and the
    ``webdataset`` package is not needed. Sources: github.com/webdataset/webdataset,
    img2dataset.

    A column is an extension, several in order of preference (``jpg;png``), or a field
    of a JSON member: ``json.caption``, ``json.meta.title``. ``columns`` defaults to the
    image and the text beside it. ``meta`` of a list of columns keeps them under their
    names.

    A member that a sample lacks is damage, which follows ``bad_samples``; ``optional``
    names what may be missing.

    Args:
        ann_file (str): a shard, a folder of shards, or a pattern with ``*`` or braces:
            ``{00000..00031}.tar``.
        columns (Mapping | None): None is ``dict(image="jpg;...", caption="txt")``.
        optional (tuple[str, ...]): names of ``columns`` that a sample may lack.
        name (str | None): None takes the stem of ``ann_file``.
        **kwargs: see :class:`ColumnDataset`.

    Raises:
        FileNotFoundError: when a shard is missing.
        ValueError: naming the shard, when one is cut, compressed or no tar.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        columns: Mapping[str, Any] | None = None,
        optional: tuple[str, ...] = (),
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        root = kwargs.get("data_root") or ""
        files = expand_files(root, ann_file, (".tar",))
        self.shards = ShardFiles([os.path.join(root, file) for file in files])
        self.optional = tuple(optional)
        stem = os.path.splitext(os.path.basename(ann_file.rstrip("/")))[0]
        if columns is None:
            columns = dict(image=_IMAGES, caption="txt")
        super().__init__(files[0], columns=columns, name=name or stem, **kwargs)
        self.ann_file = os.path.join(root, ann_file)

    def _sources(self) -> list[str]:
        return self.shards.paths

    def _load_records(self) -> DerivedRecords:
        try:
            rows = flatten_once(
                self.shards.paths,
                self._rows,
                kind=f"{type(self).__name__}-{_VERSION}",
                name=self.name,
            )
        except ValueError as error:
            raise ValueError(f"dataset '{self.name}': {error}") from error
        return DerivedRecords(rows, self._made)

    def _rows(self) -> Iterator[dict]:
        seen: set[str] = set()
        for number, path in enumerate(self.shards.paths):
            for sample in scan_shard(path):
                row = dict(key=sample.key, shard=number, members=sample.members)
                if sample.key in seen:
                    sample.reason = f"key '{sample.key}' comes again in '{path}'."
                seen.add(sample.key)
                yield {**row, DAMAGED: sample.reason} if sample.reason else row

    def _made(self, row: int) -> dict:
        line = self._records.rows[row]
        found = dict(key=f"{row}", shard=0, members={}) | (line.value or {})
        record: dict[str, Any] = dict(row=row, cells={"id": found["key"]}, images=())
        record["reason"] = line.reason or found.get(DAMAGED)
        if record["reason"]:
            return record
        opened: dict[str, Any] = {}
        try:
            record["images"] = self._places(found)
            for name, column in self.columns.items():
                if name != "image":
                    record["cells"][name] = self._cell(found, name, column, opened)
            meta = record["cells"].get("meta")
            if meta is not None and not isinstance(meta, dict):
                record["cells"]["meta"] = {self.columns["meta"]: meta}
        except ValueError as error:
            where = f"sample '{found['key']}' of '{self.shards.paths[found['shard']]}'"
            record["reason"] = f"{where}: {error}"
        return record

    def _places(self, found: dict) -> tuple:
        """Return shard, first byte and size of the image."""
        if "image" not in self.columns:
            return ()
        extension = self._extension(found, "image", self.columns["image"])
        if extension is None:
            return ()
        place = (found["shard"], *found["members"][extension])
        return ("#".join(map(str, place)),)

    def _extension(self, found: dict, name: str, column: str) -> str | None:
        for extension in column.split(";"):
            if extension in found["members"]:
                return extension
        if name in self.optional:
            return None
        raise ValueError(f"no member '{column}'; it has {sorted(found['members'])}.")

    def _cell(self, found: dict, name: str, column: Any, opened: dict) -> Any:
        if isinstance(column, list | tuple):
            return {one: self._cell(found, name, one, opened) for one in column}
        member, *path = column.split(".")
        if column in found["members"] or member not in ("json", "jsn"):
            member, path = column, []
        extension = self._extension(found, name, member)
        if extension is None:
            return None
        if extension not in opened:
            data = self.shards.read(found["shard"], *found["members"][extension])
            opened[extension] = _decoded(data, extension)
        value = opened[extension]
        for step in path:
            if not isinstance(value, dict) or step not in value:
                if name in self.optional:
                    return None
                raise ValueError(f"its member '{extension}' has no '{column}'.")
            value = value[step]
        return value

    def _image(self, key: Any) -> bytes:
        number, start, size = map(int, key.split("#"))
        return self.shards.read(number, start, size)


def _decoded(data: bytes, extension: str) -> Any:
    """Return a text or what a JSON member holds."""
    try:
        text = data.decode("utf-8-sig")
        if extension.rpartition(".")[2] in ("json", "jsn"):
            return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"its member '{extension}' cannot be read: {error}."
        ) from error
    return text.strip()
