"""Hashes of what decides the tokens of a sample: options, code, tokenizer."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from .arrays import digest_of

#: Deeper objects are taken for endless ones.
_DEPTH = 16
#: Up to so many bytes are hashed whole; of more, pieces are.
WHOLE, _PIECE, _NUM_PIECES = 2**32, 2**20, 256


class NoFingerprint(ValueError):
    """A thing that cannot be told from another one by its contents."""


def fingerprint(value: Any, depth: int = 0) -> Any:
    """Return a JSON-able value that is equal for things that act alike.

    Objects are told by their classes, the source of these, and their attributes.

    Raises:
        NoFingerprint: for functions without a name, handles, endless structures.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > _DEPTH:
        raise NoFingerprint(f"{type(value).__name__} is nested too deeply")
    if isinstance(value, bytes):
        return ["bytes", hashlib.sha256(value).hexdigest()]
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        return ["array", str(array.dtype), list(array.shape), digest]
    if isinstance(value, Mapping):
        pairs = [[str(k), fingerprint(v, depth + 1)] for k, v in value.items()]
        return ["map", sorted(pairs, key=lambda pair: pair[0])]
    if isinstance(value, list | tuple):
        return ["list", [fingerprint(one, depth + 1) for one in value]]
    if isinstance(value, set | frozenset):
        members = [fingerprint(one, depth + 1) for one in value]
        return ["set", sorted(members, key=json.dumps)]
    if isinstance(value, type | FunctionType):
        return _named(value)
    if hasattr(value, "get_vocab"):
        return ["tokenizer", tokenizer_digest(value)]
    # What an object leaves out where it is copied is made of the rest.
    leaves_out = "__getstate__" in vars(type(value))
    attributes = (
        value.__getstate__() if leaves_out else getattr(value, "__dict__", None)
    )
    if attributes is None or type(value).__module__ in ("builtins", "_io"):
        raise NoFingerprint(f"a {type(value).__name__} has no contents to tell it by")
    return [_named(type(value)), fingerprint(attributes, depth + 1)]


def _named(value: type | FunctionType) -> list:
    name = f"{value.__module__}.{value.__qualname__}"
    if "<" in value.__qualname__:
        raise NoFingerprint(f"{name} has no name to tell it by")
    lines = value.__mro__ if isinstance(value, type) else [value]
    files = {inspect.getsourcefile(one) for one in lines if _is_ours(one)}
    return ["code", name, sorted(_digest_of_file(file) for file in files if file)]


def _is_ours(value: Any) -> bool:
    return value.__module__.split(".")[0] not in ("builtins", "abc", "typing", "torch")


def _digest_of_file(path: str) -> str:
    return _digest_at(path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=512)
def _digest_at(path: str, time: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def content_size(paths: Iterable[str]) -> int:
    """Return the bytes of the files among ``paths``."""
    return sum(os.path.getsize(path) for path in paths if os.path.isfile(path))


def content_digest(paths: Iterable[str], whole: int | None = None) -> str:
    """Return a hash over what files hold, wherever they lie.

    Of folders the names and sizes of the files count. Files are read whole when they
    have no more than ``whole`` bytes together; else their sizes count, and 256 pieces
    of 1 MiB spread evenly over all of them.

    Args:
        paths (Iterable[str]): files and folders.
        whole (int | None): None takes 4 GiB.
    """
    digest, paths = hashlib.sha256(), list(paths)
    total, start = content_size(paths), 0
    limit = max(WHOLE if whole is None else whole, _NUM_PIECES * _PIECE)
    for path in paths:
        if os.path.isdir(path):
            files = sorted(file for file in Path(path).rglob("*") if file.is_file())
            names = [(str(f.relative_to(path)), f.stat().st_size) for f in files]
            digest.update(json.dumps(names).encode())
        elif os.path.isfile(path):
            size = os.path.getsize(path)
            digest.update(str(size).encode())
            places = range(0, size, _PIECE)
            if total > limit:
                spread = (total - _PIECE) / (_NUM_PIECES - 1)
                first, last = (math.ceil(at / spread) for at in (start, start + size))
                last = min(last, _NUM_PIECES)
                places = [int(n * spread) - start for n in range(first, last)]
            for piece in _pieces(path, places):
                digest.update(piece)
            start += size
    return digest.hexdigest()[:24]


def _pieces(path: str, places: Iterable[int]) -> Iterator[bytes]:
    if not places:
        return  # one of many shards, known by its size
    with open(path, "rb") as file:
        for place in places:
            file.seek(max(0, place))
            yield file.read(_PIECE)


@lru_cache(maxsize=1)
def text_code() -> str:
    """Return a hash of the code that turns conversations into tokens."""
    import mmvlm.structures
    import mmvlm.text

    folders = [Path(m.__file__).parent for m in (mmvlm.text, mmvlm.structures)]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return digest_of([_digest_of_file(str(file)) for file in files])


_TOKENIZERS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def tokenizer_digest(tokenizer: Any) -> str:
    """Return a hash of all that decides a tokenizer's ids, made once."""
    known = _TOKENIZERS.get(tokenizer)
    if known is None or known[0] != len(tokenizer):
        known = (len(tokenizer), _digest_tokenizer(tokenizer))
        _TOKENIZERS[tokenizer] = known
    return known[1]


def _digest_tokenizer(tokenizer: Any) -> str:
    facts: dict[str, Any] = dict(
        kind=type(tokenizer).__name__,
        special={str(k): str(v) for k, v in tokenizer.special_tokens_map.items()},
        chat=str(getattr(tokenizer, "chat_template", None)),
    )
    if getattr(tokenizer, "is_fast", False):
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        # Set and taken away by whoever encodes; they do not change our ids.
        facts["state"] = {**state, "padding": None, "truncation": None}
    else:
        facts["vocab"] = sorted(tokenizer.get_vocab().items())
        facts["options"] = {
            key: value
            for key, value in getattr(tokenizer, "init_kwargs", {}).items()
            if isinstance(value, bool | int | float)
        }
        model = getattr(tokenizer, "sp_model", None)
        if model is not None:
            proto = model.serialized_model_proto()
            facts["model"] = hashlib.sha256(proto).hexdigest()
        facts["merges"] = str(sorted(getattr(tokenizer, "bpe_ranks", {}).items()))
    return digest_of(facts)


#: Arguments that change which samples there are, or none of them.
_ELSEWHERE = ("name", "bad_samples", "indices", "filter_cfg", "pipeline")


def reader_options(dataset: Dataset) -> str | None:
    """Return a hash of a reader's arguments and transforms as they are built."""
    arguments, keywords = dataset._init_arguments
    kept = {key: value for key, value in keywords.items() if key not in _ELSEWHERE}
    # A task stands in the arguments as a config; built, its code counts as well.
    parts = [dataset.pipeline.transforms, getattr(dataset, "task", None)]
    try:
        return digest_of(fingerprint([type(dataset), arguments, kept, parts]))
    except NoFingerprint:
        return None
