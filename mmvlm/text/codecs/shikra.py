"""Shikra: three decimals of the padded square, or one token per number."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Region

from .base import Found, GroundingCodec, Problem, points_or_boxes

_NUMBER = r"\d(?:\.\d*)?"
_BRACKETS = {"square": "[]", "round": "()"}
_BIN = r"<bin_(\d{0,9})>"
_TOKENS = {
    "box": ("<b_st>", "<b_sep>", "<b_ed>", 4),
    "point": ("<p_st>", "<p_sep>", "<p_ed>", 2),
}


@CODECS.register_module()
class ShikraCodec(GroundingCodec):
    """``a dog[0.120,0.304,0.550,0.871]``, several boxes joined by ``;``.

    Coordinates are fractions of the square-padded image, held inside 0 to 1 and
    rounded to three decimals; points are ``[x,y]``. No spaces. With ``tokens`` each
    number is one of 1001 tokens. Shikra cannot read its own token points (a space
    stands between them); this codec can.

    Paper: Chen et al., "Shikra: Unleashing Multimodal LLM's Referential Dialogue
    Magic", arXiv 2306.15195.

    Args:
        geometry (str): see :class:`GroundingCodec`.
        brackets (str): ``square`` or ``round``.
        tokens (bool): the variant with one token per number.

    Raises:
        ValueError: for other brackets.
    """

    kinds = ("box", "point", "mask")
    phrase_separator = ""

    def __init__(
        self,
        geometry: str = "square_pad",
        brackets: str = "square",
        tokens: bool = False,
    ) -> None:
        super().__init__(geometry)
        if brackets not in _BRACKETS:
            raise ValueError(
                f"ShikraCodec: brackets='{brackets}', expected 'square' or 'round'."
            )
        self.brackets = brackets
        self.tokens = tokens
        opening = re.escape(_BRACKETS[brackets][0]) + r"\s*[-.\d]"
        self.suspect = re.compile("<[bp]_st>|<bin_" if tokens else opening)
        if tokens:
            marks = [mark for *three, _ in _TOKENS.values() for mark in three]
            bins = [f"<bin_{number}>" for number in range(1001)]
            self.special_tokens = (*marks, *bins)

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return 0.0005

    def _write(self, region: Region, role: str) -> str:
        unit = np.clip(self.to_frame(region.boxes), 0.0, 1.0)
        rows = points_or_boxes(region, unit).tolist()
        if region.kind != "point":
            rows = [[round(value, 3) for value in row] for row in rows]
        if self.tokens:
            first, between, last, _ = _TOKENS[
                "point" if region.kind == "point" else "box"
            ]
            texts = [" ".join(f"<bin_{round(v * 1000)}>" for v in row) for row in rows]
            return first + between.join(texts) + last
        first, last = _BRACKETS[self.brackets]
        texts = [",".join(f"{value:.3f}" for value in row) for row in rows]
        return first + ";".join(texts) + last

    def _read(self, text: str) -> Iterable[Found | Problem]:
        if self.tokens:
            return [*read_tokens(text, "box"), *read_tokens(text, "point", True)]
        return [
            *read_numbers(text, "box", self.brackets),
            *read_numbers(text, "point", self.brackets),
        ]


def read_numbers(text: str, kind: str, brackets: str = "square") -> list[Found]:
    """Return bracketed boxes or points as Shikra's decoder finds them.

    A number is one digit, optionally a dot and digits; no spaces, no signs.

    Args:
        text (str): to read.
        kind (str): ``box`` or ``point``; neither matches the other.
        brackets (str): ``square`` or ``round``.
    """
    count = _TOKENS[kind][3]
    row = ",".join([_NUMBER] * count)
    first, last = map(re.escape, _BRACKETS[brackets])
    return [
        Found(
            match.start(),
            match.end(),
            [
                [float(value) for value in group.split(",")]
                for group in match[1].split(";")
            ],
            kind,
        )
        for match in re.finditer(f"{first}({row}(?:;{row})*){last}", text)
    ]


def read_tokens(
    text: str, kind: str, spaces_in_points: bool = False
) -> list[Found | Problem]:
    """Return boxes or points written in tokens.

    Args:
        text (str): to read.
        kind (str): ``box`` or ``point``.
        spaces_in_points (bool): read points with a space between their numbers,
            which Shikra's decoder does not.
    """
    first, between, last, count = _TOKENS[kind]
    space = r"\s*" if kind == "box" or spaces_in_points else ""
    row = space.join([r"<bin_\d{0,9}>"] * count)
    rows = f"{space}{row}{space}(?:{between}{space}{row}{space})*"
    found: list[Found | Problem] = []
    for match in re.finditer(f"{first}{rows}{last}", text):
        numbers = re.findall(_BIN, match[0])
        if "" in numbers:
            reason = f"a bin has no number: {match[0]!r}"
            found.append(Problem(match.start(), reason, match.end()))
            continue
        values = np.array([int(n) for n in numbers]).reshape(-1, count) / 1000
        found.append(Found(match.start(), match.end(), values.tolist(), kind))
    return found


def rec_answer(text: str) -> list[float] | None:
    """Return the one box that Shikra's evaluation takes an answer for, or None.

    Args:
        text (str): an answer; it must hold one bracket with one box.
    """
    found = read_numbers(text, "box")
    if len(found) != 1 or len(found[0].values) != 1:
        return None
    return found[0].values[0]
