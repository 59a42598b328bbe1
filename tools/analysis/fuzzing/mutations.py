"""Damage to records, texts, files and images, drawn from a generator."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

Generator = np.random.Generator

#: What may stand where something else should.
NASTY: tuple[Any, ...] = (
    *(None, True, False, "", " ", 0, -1, 1, 0.5, 2**31, 2**63, 10**40, -(10**40)),
    *(1e308, -1e308, 1e-320, float("nan"), float("inf"), float("-inf"), [], {}),
    *([[]], [None], {"": None}, "nan", "NaN", "1e999", "-0", "0x10", "1,2", "null"),
    *("../../../etc/passwd", "/etc/passwd", "..", ".", "a\0b", "~", "\\\\host\\share"),
    *("http://127.0.0.1:9/x.png", "<image>", "<image><image>", "</s>", "<box>[0,0]"),
    *("\ud800", "\udfff\ud800", "\ufeff", "\u202e", "e\u0301" * 40, "\U0001f9d1" * 9),
    *("\u00c3\u00a9", "\ufffd", "\x00", "\x1b[31m", "\r", "\n" * 50, "'", '"', "%s%n"),
    *("A" * 5000, [0] * 300, {"a": {"b": {"c": {}}}}, [1, "1", None], b"\xff\xfe\x00"),
    *([1, 2, 3], [1, 2, 3, 4], [4, 3, 2, 1], [0, 0, 0, 0], [-5, -5, 1e9, 1e9]),
    *([float("nan")] * 4, ["1", "2", "3", "4"], [[1, 2, 3, 4]], [[1, 2], [3, 4]]),
    *({"size": [4, 4], "counts": [3, 99]}, {"size": [10**6, 10**6], "counts": "0"}),
)
_TOKEN = re.compile(r"-?\d+(?:\.\d+)?|\"(?:[^\"\\]|\\.)*\"|\w+")


def pick(choices: Any, rng: Generator) -> Any:
    """Draw one of several."""
    return choices[int(rng.integers(len(choices)))]


# ------------------------------------------------------------------- records
def mutate_record(value: Any, rng: Generator) -> Any:
    """Return a copy of something like JSON, changed in one to three places."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        value = _mutate_once(value, rng)
    return value


def _mutate_once(value: Any, rng: Generator) -> Any:
    places = list(_places(value))
    if not places:
        return pick(NASTY, rng)
    parent, key = pick(places, rng)
    kind = int(rng.integers(8))
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif kind == 1 and isinstance(parent, dict):
        parent[str(pick(NASTY, rng))[:60]] = parent.pop(key)
    elif kind == 2:
        other, name = pick(places, rng)
        if _has(other, name) and _has(parent, key):
            parent[key] = copy.deepcopy(other[name])
    elif kind == 3:
        parent[key] = _other_type(parent[key])
    elif kind == 4:
        parent[key] = _nested(parent[key], int(rng.integers(1, 40)))
    elif kind == 5 and isinstance(parent[key], str):
        parent[key] = mutate_text(parent[key], rng)
    elif kind == 6 and _is_number(parent[key]):
        factor = pick((-1, 0, 1e-9, 1e9, 1e300, float("nan"), 1.5), rng)
        parent[key] = parent[key] * factor
    else:
        parent[key] = copy.deepcopy(pick(NASTY, rng))
    return value


def _places(value: Any) -> Any:
    """Yield (container, key) of everything below a value; no more than 400."""
    todo, count = [value], 0
    while todo and count < 400:
        here = todo.pop(0)
        if not isinstance(here, dict | list):
            continue
        for key in list(here) if isinstance(here, dict) else range(len(here)):
            yield here, key
            count += 1
            if isinstance(here[key], dict | list):
                todo.append(here[key])


def _has(parent: Any, key: Any) -> bool:
    return key in parent if isinstance(parent, dict) else 0 <= key < len(parent)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e9


def _other_type(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, list):
        return {str(n): item for n, item in enumerate(value)} if value else 0
    return [value]


def _nested(value: Any, depth: int) -> Any:
    for number in range(depth):
        value = [value] if number % 2 else {"x": value}
    return value


# --------------------------------------------------------------------- texts
def mutate_text(text: str, rng: Generator) -> str:
    """Return a text with a token replaced, quotes swapped, a line cut, ..."""
    kind = int(rng.integers(7))
    if kind <= 2 and (tokens := list(_TOKEN.finditer(text))):
        token = pick(tokens, rng)
        new = pick(NASTY, rng)
        written = json.dumps(new, default=str) if kind else str(new)
        return text[: token.start()] + written + text[token.end() :]
    if kind == 3:
        return text.translate({34: 39, 39: 34})
    lines = text.split("\n")
    at = int(rng.integers(len(lines)))
    if kind == 4:
        lines[at] = lines[at][: int(rng.integers(len(lines[at]) + 1))]
    elif kind == 5:
        lines.insert(at, lines[at])
    else:
        del lines[at]
    return "\n".join(lines)


# --------------------------------------------------------------------- files
def mutate_bytes(data: bytes, rng: Generator) -> bytes:
    """Return a file's content cut, flipped, emptied or in another encoding."""
    kind, size = int(rng.integers(10)), max(1, len(data))
    at = int(rng.integers(size))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return b"" if rng.random() < 0.2 else rng.bytes(int(rng.integers(1, 400)))
    if kind == 2:
        return data[:at] + rng.bytes(int(rng.integers(1, 20))) + data[at:]
    if kind == 3:
        end = min(size, at + int(rng.integers(1, 60)))
        return data[:at] + data[end:]
    if kind == 4:
        end = min(size, at + int(rng.integers(1, 200)))
        return data[:end] + data[at:]
    if kind in (5, 6):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return _flip(data, rng)
        if kind == 5:
            return mutate_text(text, rng).encode("utf-8", "surrogatepass")
        return text.encode(pick(("utf-16", "utf-8-sig", "utf-32", "utf-7"), rng))
    if kind == 7:
        return data[:at] + b"\0" * min(64, size - at) + data[at + 64 :]
    if kind == 8:
        return data + data
    return _flip(data, rng)


def _flip(data: bytes, rng: Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9)) if changed else 0):
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


# ------------------------------------------------------------------ images
def mutate_image(data: bytes, rng: Generator) -> bytes:
    """Return an image's file damaged, or of another kind."""
    kinds: tuple[Callable, ...] = (_flip, _cut, _head, mutate_bytes, _other_kind)
    return pick(kinds, rng)(data, rng)


def _cut(data: bytes, rng: Generator) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def _head(data: bytes, rng: Generator) -> bytes:
    """Change the head, where sizes stand, or put another format's in its place."""
    heads = (b"GIF89a", b"BM", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF")
    if rng.random() < 0.5:
        head = pick(heads, rng)
        return head + data[len(head) :]
    return _flip(data[:64], rng) + data[64:]


def _other_kind(data: bytes, rng: Generator) -> bytes:
    """Return a small whole image of an unusual kind."""
    import PIL.Image

    mode = pick(("1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F", "YCbCr"), rng)
    size = pick(((1, 1), (1, 300), (48, 48), (3, 2)), rng)
    image = PIL.Image.new(mode, size)
    formats = {"CMYK": "JPEG", "F": "TIFF", "YCbCr": "JPEG", "I;16": "PNG"}
    options: dict[str, Any] = {}
    kind = formats.get(mode, pick(("PNG", "TIFF", "WEBP"), rng))
    if kind in ("JPEG", "WEBP") or rng.random() < 0.3:
        exif = PIL.Image.Exif()
        exif[0x0112] = int(rng.integers(0, 12))  # the orientation
        options["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    if kind == "WEBP" and mode in ("1", "I;16", "LA"):
        kind = "PNG"
    image.save(buffer, kind, **options)
    return buffer.getvalue()
