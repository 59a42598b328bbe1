"""Kosmos-2: a token per corner, on a grid of 32 x 32 cells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Region, Text

from .base import Found, GroundingCodec, Problem

_TAGS = ("<phrase>", "</phrase>", "<object>", "</object>")
_DELIMITER = "</delimiter_of_multi_objects/>"
_PATCH = r"<patch_index_(\d{1,9})>"
_PAIR = r"<patch_index_\d{1,9}><patch_index_\d{1,9}>"
_ENTITY = re.compile(
    rf"(?:<phrase>(?P<phrase>[^<]+)</phrase>)?"
    rf"<object>(?P<pairs>{_PAIR}(?:{_DELIMITER}{_PAIR})*)</object>"
)
_SPACED = re.compile(rf" ?(<object>|</object>|{_DELIMITER}|<patch_index_\d{{1,9}}>)")


@CODECS.register_module()
class Kosmos2Codec(GroundingCodec):
    """``<phrase> a dog</phrase><object><patch_index_0044><patch_index_0863></object>``.

    A box is the cell of its upper left and of its lower right corner; read back, a
    corner is the centre of its cell, or its outer edge where both corners share a row
    or a column. The box must have an area. An
    expression in a question stands in ``<phrase>``, and a question whose answer
    holds boxes starts with ``<grounding>``.

    Paper: Peng et al., "Kosmos-2: Grounding Multimodal Large Language Models to the
    World", arXiv 2306.14824. Deviations: a corner outside the image is written as
    the nearest cell (the official code writes another row, or no token at all).

    Args:
        geometry (str): see :class:`GroundingCodec`.
        grid (int): cells along a side.
        spaces (bool): put a space before each tag, as transformers' processor
            does; the released tokenizer strips them.
        grounding_tag (bool): write ``<grounding>``.
        decode_at (str | None): ``official``: outer edges of rows and columns where
            either is shared; ``centre``: only of what is shared, so that all else is
            off by half a cell at most; None: ``official``, but ``centre`` in replies.

    Raises:
        ValueError: for another ``decode_at``.
    """

    suspect = re.compile("<object|<patch_index")

    def __init__(
        self,
        geometry: str = "stretch",
        grid: int = 32,
        spaces: bool = False,
        grounding_tag: bool = True,
        decode_at: str | None = None,
    ) -> None:
        super().__init__(geometry)
        if decode_at not in (None, "official", "centre"):
            raise ValueError(
                f"Kosmos2Codec: decode_at='{decode_at}', expected 'official' or "
                "'centre'."
            )
        self.decode_at = decode_at
        self.grid = grid
        self.spaces = spaces
        self.grounding_tag = grounding_tag
        patches = (f"<patch_index_{index:04d}>" for index in range(grid * grid))
        self.special_tokens = (*_TAGS, _DELIMITER, "<grounding>", *patches)

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return 1 / self.grid

    def mark(self, text: Text, role: str) -> str:
        """Return words with the marks of their kind."""
        if role == "user" and text.kind == "expression":
            return self._write_phrase(text.text, "", role)
        return text.text

    def opens_question(self, answer_is_grounded: bool) -> str:
        """Return what stands before the words of a question."""
        return "<grounding>" if answer_is_grounded and self.grounding_tag else ""

    def _write(self, region: Region, role: str) -> str:
        pairs = []
        for box in self.to_frame(region.boxes).tolist():
            inside = [min(max(value, 0.0), 1.0) for value in box]
            corners = box_to_patches(inside, self.grid)
            pairs.append([f"<patch_index_{index:04d}>" for index in corners])
        return write_object(pairs, self.spaces)

    def _write_phrase(self, phrase: str, boxes: str, role: str) -> str:
        return f"<phrase> {phrase.strip()}</phrase>{boxes}"

    def _join(self, left: str, right: str) -> str:
        # The space in front of a phrase stands inside its tag.
        if right.startswith("<phrase> ") and left.endswith(" "):
            left = left[:-1]
        return left + right

    def _read(self, text: str) -> Iterable[Found | Problem]:
        # Spaces that the processor writes before tags are no part of the syntax.
        # They are blanked behind the tag instead of cut, so that places stay right.
        tight = _SPACED.sub(r"\1", text)
        places = _places(text, tight)
        for match in _ENTITY.finditer(tight):
            numbers = [int(number) for number in re.findall(_PATCH, match["pairs"])]
            rows = [
                patches_to_box(*pair, self.grid, apart=self.decode_at == "centre")
                for pair in zip(numbers[::2], numbers[1::2], strict=True)
            ]
            start, end = places[match.start()], places[match.end() - 1] + 1
            phrase = match["phrase"].strip() if match["phrase"] else None
            if max(numbers) >= self.grid**2:
                reason = f"patch {max(numbers)} on a grid of {self.grid} x {self.grid}"
                yield Problem(start, reason, end)
            else:
                yield Found(start, end, rows, phrase=phrase)


def _places(text: str, tight: str) -> list[int]:
    """Return for each character of ``tight`` its place in ``text``.

    ``tight`` is ``text`` without some spaces.
    """
    places, at = [], 0
    for character in tight:
        while text[at] != character:
            at += 1
        places.append(at)
        at += 1
    return places


def box_to_patches(box: Sequence[float], grid: int = 32) -> tuple[int, int]:
    """Return the cells of the upper left and the lower right corner.

    Args:
        box (Sequence[float]): x1, y1, x2, y2, fractions of the sides.
        grid (int): cells along a side.

    Raises:
        ValueError: for a box without area.
    """
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):
        raise ValueError(f"box {list(box)} has no area; Kosmos-2 cannot write it.")
    first = math.floor(y1 * grid) * grid + math.floor(x1 * grid)
    last = math.ceil(y2 * grid - 1) * grid + math.ceil(x2 * grid - 1)
    return first, last


def patches_to_box(
    first: int, last: int, grid: int = 32, *, apart: bool = False
) -> tuple[float, float, float, float]:
    """Return the box between two cells, fractions of the sides.

    Corners are cell centres, or outer edges when both cells share a row or column.

    Args:
        first (int): cell of the upper left corner.
        last (int): of the lower right corner.
        grid (int): cells along a side.
        apart (bool): a shared row says nothing of the columns, nor these of rows.
    """
    cell, half = 1 / grid, 0.5 / grid
    rows, columns = zip(divmod(first, grid), divmod(last, grid), strict=True)
    shared = [side[0] == side[1] for side in (columns, rows)]
    if not apart:
        shared = [any(shared)] * 2
    (x1, x2), (y1, y2) = (
        (low * cell, (high + 1) * cell)
        if edges
        else (low * cell + half, high * cell + half)
        for edges, (low, high) in zip(shared, (columns, rows), strict=True)
    )
    return x1, y1, x2, y2


def write_object(pairs: Sequence[Sequence[str]], spaces: bool = False) -> str:
    """Return the tag of some boxes, each a pair of location tokens."""
    words = ["<object>"]
    for number, pair in enumerate(pairs):
        words += [_DELIMITER] if number else []
        words += pair
    words.append("</object>")
    return (" " if spaces else "").join(words)


def insert_boxes(
    text: str, boxes: Sequence | None, grid: int = 32, spaces: bool = True
) -> str:
    """Return a text with the boxes of its phrases put behind them.

    Args:
        text (str): with ``<phrase> ... </phrase>``.
        boxes (Sequence | None): per phrase a box, a list of boxes, or None; a box is
            four fractions, or its pair of cells.
        grid (int): cells along a side.
        spaces (bool): put a space before each tag.

    Raises:
        ValueError: when there are not as many entries as phrases, or a box has no
            area.
    """
    phrases = list(re.finditer(r"<phrase>.+?</phrase>", text))
    entries = [None] * len(phrases) if boxes is None else list(boxes)
    if len(entries) != len(phrases):
        raise ValueError(
            f"{len(phrases)} phrases, but boxes for {len(entries)}: {text!r:.100}"
        )
    written, at = [], 0
    for phrase, entry in zip(phrases, entries, strict=True):
        written.append(text[at : phrase.end()])
        at = phrase.end()
        rows = [] if entry is None or len(entry) == 0 else entry
        if len(rows) and not isinstance(rows[0], Sequence | np.ndarray):
            rows = [rows]
        pairs = [tuple(r) if len(r) == 2 else box_to_patches(r, grid) for r in rows]
        if pairs:
            tokens = [[f"<patch_index_{i:04d}>" for i in pair] for pair in pairs]
            written.append(write_object(tokens, spaces))
    return "".join([*written, text[at:]])


def clean_entities(
    text: str, grid: int = 32
) -> tuple[str, list[tuple[str, tuple[int, int], list]]]:
    """Return a text without tags, and its entities, as transformers' processor does.

    Args:
        text (str): what the model said.
        grid (int): cells along a side.

    Returns:
        tuple: the text, and per entity its words, first and last (exclusive)
        character in that text, and boxes as fractions. Boxes without a phrase are
        one entity each, named by their cells.
    """
    plain = _without_tags(text)
    cut = len(plain) - len(plain.lstrip())
    entities = []
    for match in _ENTITY.finditer(text):
        numbers = [int(number) for number in re.findall(_PATCH, match["pairs"])]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        boxes = [patches_to_box(*pair, grid) for pair in pairs]
        start = len(_without_tags(text[: match.start()])) - cut
        phrase = match["phrase"]
        if phrase is None:
            names = (f"<patch_index_{a}><patch_index_{b}>" for a, b in pairs)
            entities += [
                (name, (start, start), [box])
                for name, box in zip(names, boxes, strict=True)
            ]
            continue
        start += len(phrase) - len(phrase.lstrip())
        name = phrase.strip()
        entities.append((name, (start, start + len(name)), boxes))
    return plain.strip(), entities


def _without_tags(text: str) -> str:
    return re.sub(r"<.*?>", "", text)
