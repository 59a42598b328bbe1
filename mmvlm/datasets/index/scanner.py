"""JSON files as streams: every record with its place, never the whole file.

The records of a list are found by Python's own JSON scanner, in C: strings, escapes,
nesting and layout are its business. It reads bytes as Latin-1, where a character is
a byte, so positions in the text are positions in the file; only records that hold
more than ASCII are decoded again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from json.decoder import JSONDecodeError
from typing import Any, NamedTuple

#: Bytes that are read at once; a longer record makes the window grow.
_CHUNK = 1 << 22
_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\n\r]*")
#: An error so near to the window's end may come of what is not read yet (a cut
#: literal, number or escape).
_NEAR = 16
# Any number of digits is read here; who fetches the record is told of too many.
_scan = json.JSONDecoder(parse_int=float).scan_once
_decode = json.JSONDecoder().decode


class Scanned(NamedTuple):
    """A record and its place.

    Args:
        start (int): first byte.
        end (int): behind the last byte.
        number (int): of the record (of the line in JSON lines), from 1.
        value (Any): what it holds; None when it cannot be read.
        problem (str | None): why it cannot be read.
    """

    start: int
    end: int
    number: int
    value: Any
    problem: str | None = None


def read_value(data: bytes) -> tuple[Any, str | None]:
    """Return what a record holds, or None and why it cannot be read."""
    try:
        return _decode(data.decode("utf-8-sig")), None
    except UnicodeDecodeError as error:
        return None, f"is not UTF-8 text: {error.reason}"
    except JSONDecodeError as error:
        return None, f"is not valid JSON (column {error.colno}): {error.msg}"
    except ValueError as error:  # more digits than Python turns into a number
        return None, f"is not valid JSON: {error}"
    except RecursionError:
        return None, "is nested too deeply"


def whole_object(path: str) -> str | None:
    """Return what a file is that holds one JSON object over several lines.

    For messages only: the file is read as a whole.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            value = json.load(file)
    except (ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(value, dict):
        return None
    lists = [key for key, content in value.items() if isinstance(content, list)]
    shape = f"one JSON object over several lines (keys {list(value)[:8]})"
    hold = "".join(f" Its '{key}' holds a list." for key in lists[:3])
    return (
        f"annotation file '{path}' is {shape}; expected a list of records, [{{...}}, "
        f"...], or one object per line.{hold}"
    )


def first_character(path: str) -> tuple[str, str]:
    """Return a file's first character that is no white space, and its beginning."""
    with open(path, "rb") as file:
        head = shown = file.read(64).removeprefix(_BOM)
        while head and not head.strip():
            head = file.read(_CHUNK)
    return head.lstrip()[:1].decode("latin-1"), shown[:20].decode("utf-8", "replace")


class _Window:
    """A part of a file as Latin-1 text that moves on and grows when needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = os.path.getsize(path)
        self.file = open(path, "rb")
        bom = self.file.read(3) == _BOM
        self.base = 3 if bom else 0
        self.file.seek(self.base)
        self.text, self.at, self.is_last = "", 0, False
        self.grow()

    def grow(self) -> None:
        """Drop what lies before ``at`` and read on; more, the longer the rest is."""
        rest = self.text[self.at :]
        block = self.file.read(max(_CHUNK, len(rest)))
        self.is_last = not block
        self.base += self.at
        self.text, self.at = rest + block.decode("latin-1"), 0

    def skip_space(self) -> str:
        """Move to the next character that is no white space and return it."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()
            if self.at < len(self.text):
                return self.text[self.at]
            if self.is_last:
                return ""
            self.grow()

    def error(self, position: int, message: str) -> ValueError:
        """Return the error that tells where the file is damaged."""
        byte = self.base + position
        if not _is_utf8(self.text[self.at :], self.is_last):
            return ValueError(
                f"annotation file '{self.path}' is not UTF-8 text near byte {byte}."
            )
        line, column = _place(self.path, byte)
        hint = "Repair the file there."
        if message != "Extra data" and not _ends_with(self.path, b"]"):
            hint = "The file ends too early: it was cut; fetch or write it again."
        return ValueError(
            f"annotation file '{self.path}' is not valid JSON at line {line} column "
            f"{column} (byte {byte} of {self.size}): {message}. {hint}"
        )


def scan_list(path: str) -> Iterator[Scanned]:
    """Yield the records of a file that holds one JSON list.

    Whole numbers come as floats. What stands in memory is a few megabytes, or the
    longest record.

    Args:
        path (str): a file, with or without byte order mark, laid out in any way.

    Raises:
        ValueError: naming file, line and column, when it is no list, damaged or cut.
    """
    window = _Window(path)
    try:
        if window.skip_space() != "[":
            raise window.error(window.at, "Expecting a list")
        window.at += 1
        number = 0
        while not (number == 0 and window.skip_space() == "]"):
            value, start, end, delimiter = _next(window)
            number += 1
            problem = None
            if not window.text.isascii():
                raw = window.text[start:end].encode("latin-1")
                if not raw.isascii():
                    value, problem = read_value(raw)
                    if problem is not None and "UTF-8" in problem:
                        raise window.error(start, problem)
            yield Scanned(
                window.base + start, window.base + end, number, value, problem
            )
            if delimiter == "]":
                break
        window.at += 1
        if window.skip_space():
            raise window.error(window.at, "Extra data")
    finally:
        window.file.close()


def _next(window: _Window) -> tuple[Any, int, int, str]:
    """Return a value, start and end in the window, and the delimiter behind it.

    The window is left at the delimiter; a value or delimiter that is not all in it
    makes it grow.
    """
    window.skip_space()
    while True:
        value, end, delimiter = None, None, ""
        try:
            value, end = _scan(window.text, window.at)
        except StopIteration as stop:
            position, message = stop.value, "Expecting value"
        except JSONDecodeError as error:
            position, message = error.pos, error.msg
        except RecursionError:
            raise window.error(window.at, "nested too deeply") from None
        if end is not None:
            position, message = _SPACE.match(window.text, end).end(), ""
            delimiter = window.text[position : position + 1]
            if delimiter == "," or delimiter == "]":
                start, window.at = window.at, position + (delimiter == ",")
                return value, start, end, delimiter
            message = "Expecting ',' delimiter"
        cut = position >= len(window.text) - _NEAR or message.startswith("Unterm")
        if window.is_last or not cut:
            raise window.error(position, message)
        window.grow()


def scan_lines(path: str) -> Iterator[Scanned]:
    """Yield the lines of a file of JSON lines that are not blank.

    A line that cannot be read has a ``problem``; nothing else stops.
    """
    start, number, rest = 0, 0, b""
    with open(path, "rb") as file:
        while True:
            block = file.read(max(_CHUNK, len(rest)))
            data = rest + block
            cut = data.rfind(b"\n") + 1 if block else len(data)
            lines = data[:cut].split(b"\n")
            if block or not lines[-1]:
                lines.pop()
            for line in lines:
                number += 1
                if line and not line.removeprefix(_BOM).isspace() and line != _BOM:
                    value, problem = read_value(line)
                    yield Scanned(start, start + len(line), number, value, problem)
                start += len(line) + 1
            if not block:
                return
            rest = data[cut:]


def _is_utf8(text: str, is_last: bool) -> bool:
    try:
        text.encode("latin-1").decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and not is_last
    return True


def _ends_with(path: str, mark: bytes) -> bool:
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 4096))
        return file.read().rstrip().endswith(mark)


def _place(path: str, byte: int) -> tuple[int, int]:
    """Return line and column, in bytes, of a position, both from 1."""
    line, last, start = 1, -1, 0
    with open(path, "rb") as file:
        while start < byte:
            block = file.read(min(_CHUNK, byte - start))
            if not block:
                break
            line += block.count(b"\n")
            found = block.rfind(b"\n")
            last = start + found if found >= 0 else last
            start += len(block)
    return line, byte - last
