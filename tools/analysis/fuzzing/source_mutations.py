"""Damage to values inside of annotation files, which stay files of their kind."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from typing import Any

import numpy as np

from .mutations import mutate_bytes, mutate_record, mutate_text, pick


def mutate_source(path: str, data: bytes, rng: np.random.Generator) -> bytes:
    """Change values of an annotation file of any kind, so that it can be parsed."""
    if not data:
        return mutate_bytes(data, rng)
    if path.endswith((".json", ".jsonl")):
        return _mutate_json(data, rng)
    if path.endswith((".p", ".pkl")):
        value = pickle.loads(data)  # what this process wrote itself
        return pickle.dumps(mutate_record(value, rng), protocol=2)
    if path.endswith((".parquet", ".arrow")):
        return _mutate_table(path, data, rng)
    if path.endswith(".tar"):
        return _mutate_tar(data, rng)
    try:
        return mutate_text(data.decode("utf-8"), rng).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return mutate_bytes(data, rng)


def _mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    text = data.decode("utf-8")
    try:
        return _dump(mutate_record(json.loads(text), rng))
    except json.JSONDecodeError:
        lines = text.splitlines()
    at = int(rng.integers(len(lines)))
    changed = _dump(mutate_record(json.loads(lines[at]), rng))
    encoded = [line.encode() for line in lines]
    return b"\n".join([*encoded[:at], changed, *encoded[at + 1 :]]) + b"\n"


def _dump(value: Any) -> bytes:
    ascii_only = isinstance(value, dict | list) and len(repr(value)) % 2 == 0
    text = json.dumps(value, ensure_ascii=ascii_only, default=str)
    return text.encode("utf-8", "surrogatepass")


def _mutate_table(path: str, data: bytes, rng: np.random.Generator) -> bytes:
    """Change cells of a Parquet or Arrow file; its schema follows them."""
    import pyarrow
    from pyarrow import ipc, parquet

    is_parquet, buffer = path.endswith(".parquet"), io.BytesIO()
    read = (
        parquet.read_table if is_parquet else (lambda f: ipc.open_stream(f).read_all())
    )
    try:
        table = read(io.BytesIO(data))
        changed = pyarrow.Table.from_pylist(mutate_record(table.to_pylist(), rng))
        if is_parquet:
            parquet.write_table(changed, buffer)
        else:
            with ipc.new_stream(buffer, changed.schema) as stream:
                stream.write_table(changed)
    except (pyarrow.ArrowException, *_NO_TABLE):
        return mutate_bytes(data, rng)
    return buffer.getvalue()


#: What pyarrow raises for values that no column holds.
_NO_TABLE = (ValueError, TypeError, AttributeError, KeyError, OverflowError)


def _mutate_tar(data: bytes, rng: np.random.Generator) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar if m.isfile()]
    at = int(rng.integers(len(members)))
    name, content = members[at]
    if rng.random() < 0.15:
        name = str(pick(("../" + name, "/" + name, "x", name + name, ""), rng))
    members[at] = (name, mutate_bytes(content, rng))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
