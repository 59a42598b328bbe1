"""Qwen-VL: integers of a 1000 x 1000 image between tags."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Region, Text

from .base import Found, GroundingCodec, Problem

_PAIR = re.compile(r"\((.*?)\),\((.*?)\)")
_BLOCK = re.compile(r"(?:<ref>(?P<ref>[^<]*)</ref>)?(?P<boxes>(?:<box>.*?</box>)+)")
_SCALE = {"eval": 999.0, "draw": 1000.0, "centre": 1000.0}


@CODECS.register_module()
class QwenVLCodec(GroundingCodec):
    """``<ref>a dog</ref><box>(120,304),(550,871)</box>``, a block per box.

    Coordinates are truncated to thousandths of the stretched image and held
    inside 0 .. 999. Expressions in questions stand in ``<ref>`` too. Numbers
    without tags, as generated behind ``<box>`` in the prompt, are read as well.

    Paper: Bai et al., "Qwen-VL: A Versatile Vision-Language Model", arXiv
    2308.12966. The rule that made the training boxes is not published.

    Args:
        geometry (str): see :class:`GroundingCodec`.
        mark_expressions (bool): put ``<ref>`` around expressions in questions.
        decode_at (str | None): ``eval``: n / 999, as the evaluation reads; ``draw``:
            n / 1000, as boxes are drawn; ``centre``: the middle of the bin; None:
            ``eval``, but the middle in replies.

    Raises:
        ValueError: for another ``decode_at``.
    """

    special_tokens = ("<ref>", "</ref>", "<box>", "</box>")
    suspect = re.compile(r"<box>|\(\s*-?\d+\s*,")

    def __init__(
        self,
        geometry: str = "stretch",
        mark_expressions: bool = True,
        decode_at: str | None = None,
    ) -> None:
        super().__init__(geometry)
        if decode_at not in (None, *_SCALE):
            raise ValueError(
                f"QwenVLCodec: decode_at='{decode_at}', expected one of {list(_SCALE)}."
            )
        self.mark_expressions = mark_expressions
        self.decode_at = decode_at

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return 0.0005 if self.decode_at == "centre" else 0.001

    def mark(self, text: Text, role: str) -> str:
        """Return words with the marks of their kind."""
        if self.mark_expressions and role == "user" and text.kind == "expression":
            return f"<ref>{text.text}</ref>"
        return text.text

    def _write(self, region: Region, role: str) -> str:
        # The fraction first, as a product of integers rounds otherwise.
        bins = np.clip(np.trunc(self.to_frame(region.boxes) * 1000), 0, 999)
        return "".join(
            f"<box>({x1},{y1}),({x2},{y2})</box>"
            for x1, y1, x2, y2 in bins.astype(int).tolist()
        )

    def _write_phrase(self, phrase: str, boxes: str, role: str) -> str:
        return f"<ref>{phrase}</ref>{boxes}"

    def _read(self, text: str) -> Iterable[Found | Problem]:
        found: list[Found | Problem] = []
        at = 0
        for block in _BLOCK.finditer(text):
            found += self._bare(text, at, block.start())
            inner = block["boxes"].removeprefix("<box>").removesuffix("</box>")
            rows = [self._row(piece) for piece in inner.split("</box><box>")]
            if any(row is None for row in rows):
                reason = f"no box: {block['boxes'][:60]!r}"
                found.append(Problem(block.start(), reason, block.end()))
            else:
                span = (block.start(), block.end())
                found.append(Found(*span, rows, phrase=block["ref"]))
            at = block.end()
        return found + self._bare(text, at, len(text))

    def _bare(self, text: str, start: int, end: int) -> list[Found]:
        """Return boxes without tags between two places of a text."""
        found = []
        for match in _PAIR.finditer(text, start, end):
            row = self._row(match[0])
            if row is not None:
                found.append(Found(match.start(), match.end(), [row]))
        return found

    def _row(self, text: str) -> list[float] | None:
        box, status = eval_box(text)
        if status != "ok":
            return None
        shift = 0.5 if self.decode_at == "centre" else 0.0
        return [(value + shift) / _SCALE[self.decode_at or "eval"] for value in box]


def eval_box(text: str) -> tuple[list[float], str]:
    """Return the box that Qwen-VL's evaluation takes an answer for.

    Args:
        text (str): an answer.

    Returns:
        tuple[list[float], str]: four numbers on the scale 0 .. 999 and ``ok``; or
        zeros and ``zero``, with the class of the error behind a colon where the
        evaluation met one.
    """
    zero = [0.0, 0.0, 0.0, 0.0]
    match = _PAIR.search(text)
    if match is None:
        return zero, "zero:IndexError"
    if "," not in match[1] or "," not in match[2]:
        return zero, "zero"
    corners = [match[1].split(","), match[2].split(",")]
    if any(len(corner) != 2 for corner in corners):
        return zero, "zero:ValueError"
    try:
        return [float(value) for corner in corners for value in corner], "ok"
    except ValueError:
        return zero, "zero:ValueError"
