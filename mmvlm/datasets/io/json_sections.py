"""Tables of a JSON object, item by item: files of gigabytes at the cost of one item."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

_CHUNK = 1 << 22
_BLANK = " \t\r\n"


class SectionItem(NamedTuple):
    """One item of a table.

    Args:
        section (str): key of the table.
        value (Any): the item.
        start (int): its first byte in the file.
        end (int): the byte behind it.
    """

    section: str
    value: Any
    start: int
    end: int


def scan_sections(
    path: str, sections: Sequence[str], chunk: int = _CHUNK
) -> Iterator[SectionItem]:
    """Yield the items of some tables of ``{"images": [...], "categories": [...]}``.

    Tables come in the file's order; other keys are passed over. Memory holds a
    chunk, however large the file is.

    Args:
        path (str): a file that holds one JSON object.
        sections (Sequence[str]): keys whose values are lists.
        chunk (int): bytes read at a time.

    Raises:
        ValueError: naming file and byte, when the file is cut, no JSON object, not
            UTF-8, lacks one of the tables, has one twice, or holds something else
            in place of a list.
    """
    with open(path, "rb") as file:
        reader = _Reader(file, path, chunk)
        yield from _tables(reader, sections)


def _tables(reader: _Reader, sections: Sequence[str]) -> Iterator[SectionItem]:
    if reader.peek() != "{":
        raise reader.error("it is no JSON object")
    reader.step()
    seen: list[str] = []
    while reader.peek() != "}":
        if seen:
            reader.expect(",")
        key, _, _ = reader.value()
        if not isinstance(key, str):
            raise reader.error(f"expected a key, found {key!r:.40}")
        reader.expect(":")
        if key in sections and key in seen:
            raise reader.error(f"the table '{key}' comes twice")
        seen.append(key)
        if key in sections:
            yield from _items(reader, key)
        else:
            reader.value()
    reader.step()
    if reader.peek():
        raise reader.error("something follows its end")
    missing = [key for key in sections if key not in seen]
    if missing:
        raise ValueError(
            f"annotation file '{reader.path}' has no table {missing}; its keys are "
            f"{seen!r:.200}."
        )


def _items(reader: _Reader, key: str) -> Iterator[SectionItem]:
    if reader.peek() != "[":
        raise reader.error(f"'{key}' is no list")
    reader.step()
    first = True
    while reader.peek() != "]":
        if not first:
            reader.expect(",")
        first = False
        yield SectionItem(key, *reader.value())
    reader.step()


class _Reader:
    """A window on the file.

    The window holds bytes as Latin-1, so that places in it are places in the file.
    JSON's own characters are ASCII, which UTF-8 uses for nothing else, so items end
    where they should; one with other characters is decoded again.
    """

    def __init__(self, file: BinaryIO, path: str, chunk: int) -> None:
        self.path = path
        self._file = file
        self._chunk = chunk
        self._text, self._place, self._passed = "", 0, 0
        self._ended = False
        self._check = codecs.getincrementaldecoder("utf-8")()
        self._decode = json.JSONDecoder().raw_decode
        self._more()
        if self._text.startswith("\xef\xbb\xbf"):
            self._place = 3

    def error(self, reason: str) -> ValueError:
        """Return an error that names file and place."""
        hint = "it was cut; fetch it again" if self._ended else "repair the file there"
        return ValueError(
            f"annotation file '{self.path}' is damaged at byte "
            f"{self._passed + self._place}: {reason}; {hint}."
        )

    def peek(self) -> str:
        """Return the next character that is not blank; empty at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in _BLANK:
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if self._ended:
                return ""
            self._more()

    def step(self) -> None:
        """Pass over one character."""
        self._place += 1

    def expect(self, char: str) -> None:
        """Pass over one character that must stand here."""
        found = self.peek()
        if found != char:
            raise self.error(f"expected '{char}', found {found or 'its end'!r}")
        self.step()

    def value(self) -> tuple[Any, int, int]:
        """Return the next value with its first byte and the byte behind it."""
        if not self.peek():
            raise self.error("it ends too early")
        while True:
            try:
                value, end = self._decode(self._text, self._place)
            except (ValueError, RecursionError) as error:
                if self._ended or isinstance(error, RecursionError):
                    raise self.error(str(error)) from error
            else:
                # A number may go on behind the window.
                if end < len(self._text) or self._ended:
                    break
            self._more()
        raw = self._text[self._place : end]
        if not raw.isascii():
            value = json.loads(raw.encode("latin-1"))
        start = self._passed + self._place
        self._place = end
        return value, start, self._passed + end

    def _more(self) -> None:
        # Doubles while one item does not fit, so that reading stays linear.
        data = self._file.read(max(self._chunk, len(self._text) - self._place))
        self._ended = not data
        try:
            self._check.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"annotation file '{self.path}' is not UTF-8 text: {error.reason} "
                f"after byte {self._passed + len(self._text)}."
            ) from error
        self._passed += self._place
        self._text = self._text[self._place :] + data.decode("latin-1")
        self._place = 0
