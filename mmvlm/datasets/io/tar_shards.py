"""Tar shards as lists of samples: places of members, read without unpacking."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_BLOCK = 512
_MOST_OPEN = 32


@dataclass
class ShardSample:
    """Members of one sample that stand together in a shard.

    Args:
        key (str): name without extensions.
        members (dict[str, tuple[int, int]]): extension (``jpg``, ``seg.png``) to first
            byte and size.
        reason (str | None): why it cannot be used.
    """

    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    reason: str | None = None


def scan_shard(path: str) -> Iterator[ShardSample]:
    """Yield the samples of a shard, as ``webdataset`` groups them.

    A member is ``<key>.<extension>``: the key ends at the first dot of the file's name.
    Members of a sample follow each other. A member that comes twice, or that is no
    file, makes its sample unusable; folders are passed over.

    Raises:
        ValueError: naming the shard, when it is cut, no tar, or compressed.
    """
    try:
        with tarfile.open(path, "r:") as shard:
            yield from _samples(shard, path)
            end = shard.offset
    except (tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(
            f"shard '{path}' cannot be read: {error}. It is cut, damaged, no tar, or "
            "compressed (unpack it with gunzip: a packed shard has no places)."
        ) from error
    with open(path, "rb") as file:
        file.seek(max(0, end - _BLOCK))
        tail = file.read(2 * _BLOCK)
    if not tail.endswith(bytes(_BLOCK)):
        raise ValueError(
            f"shard '{path}' has no end mark: it was cut behind a member; "
            "fetch it again."
        )


def _samples(shard: tarfile.TarFile, path: str) -> Iterator[ShardSample]:
    sample: ShardSample | None = None
    for member in shard:
        if member.isdir():
            continue
        folder, _, name = member.name.rpartition("/")
        stem, dot, extension = name.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = ShardSample(key)
        extension = extension.lower()
        if not member.isreg() or member.issparse():
            sample.reason = f"member '{member.name}' of '{path}' is no plain file."
        elif not dot or not stem:
            sample.reason = f"member '{member.name}' of '{path}' has no extension."
        elif extension in sample.members:
            sample.reason = f"member '{member.name}' of '{path}' comes twice."
        else:
            sample.members[extension] = (member.offset_data, member.size)
    if sample is not None:
        yield sample


class ShardFiles:
    """Reads pieces of many files; opened when needed, in every process for itself.

    Args:
        paths (list[str]): the files.
    """

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self._open: dict[int, int] = {}

    def read(self, number: int, start: int, size: int) -> bytes:
        """Return bytes of file ``number``.

        Raises:
            ValueError: when the file is shorter than when it was indexed.
        """
        handle = self._open.pop(number, None)
        if handle is None:
            handle = os.open(self.paths[number], os.O_RDONLY)
        self._open[number] = handle  # last used last
        if len(self._open) > _MOST_OPEN:
            os.close(self._open.pop(next(iter(self._open))))
        data = os.pread(handle, size, start)
        if len(data) != size:
            raise ValueError(
                f"'{self.paths[number]}' ends inside of bytes {start} to "
                f"{start + size}."
            )
        return data

    def __getstate__(self) -> dict:
        return {"paths": self.paths, "_open": {}}

    def __del__(self, close: Callable = os.close) -> None:  # `os` may be gone by then
        for handle in self.__dict__.get("_open", {}).values():
            close(handle)
