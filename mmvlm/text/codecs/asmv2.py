"""All-Seeing v2: integers of the padded square in lists of lists, between tags."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Region, Text

from .base import Found, GroundingCodec, Problem

_ROW = r"\[\s*\d{1,9}(?:\s*,\s*\d{1,9}){3}\s*\]"
_BLOCK = re.compile(
    rf"(?:<ref>(?P<ref>[^<]*)</ref>)?(?:<box>)?"
    rf"\[\s*(?P<rows>{_ROW}(?:\s*,\s*{_ROW})*)\s*\](?:</box>)?"
)
_SCALE = 999
_TAGS = {"expression": "ref", "predicate": "pred"}


@CODECS.register_module()
class ASMv2Codec(GroundingCodec):
    """``<ref>a dog</ref><box>[[120, 304, 550, 871]]</box>``, a list per box.

    Coordinates are fractions of the padded square times 999, cut to integers. All boxes
    of a region stand in one list. Expressions in questions stand in ``<ref>`` too, and
    predicates in ``<pred>``, as in relation conversations. The tags are ordinary words;
    lists without them are read as well.

    Source: github.com/OpenGVLab/all-seeing. Paper: Wang et al., "The All-Seeing Project
    V2: Towards General Relation Comprehension of the Open World", ECCV 2024, arXiv
    2402.19474.

    Args:
        geometry (str): see :class:`GroundingCodec`.
        decode_at (str | None): ``eval``: n / 999, as the evaluation reads; ``centre``:
            the middle of the bin; None: ``eval``, but the middle in replies.

    Raises:
        ValueError: for another ``decode_at``.
    """

    phrase_separator = ""
    suspect = re.compile(r"<box>|\[\s*\[")

    def __init__(
        self, geometry: str = "square_pad", decode_at: str | None = None
    ) -> None:
        super().__init__(geometry)
        if decode_at not in (None, "eval", "centre"):
            raise ValueError(
                f"ASMv2Codec: decode_at='{decode_at}', expected 'eval' or 'centre'."
            )
        self.decode_at = decode_at

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return (0.5 if self.decode_at == "centre" else 1.0) / _SCALE

    def mark(self, text: Text, role: str) -> str:
        """Return words with the tags of their kind."""
        tag = _TAGS.get(text.kind)
        is_tagged = role == "user" or tag == "pred"
        return f"<{tag}>{text.text}</{tag}>" if tag and is_tagged else text.text

    def _write(self, region: Region, role: str) -> str:
        unit = np.clip(self.to_frame(region.boxes), 0.0, 1.0)
        return f"<box>{np.trunc(unit * _SCALE).astype(int).tolist()}</box>"

    def _write_phrase(self, phrase: str, boxes: str, role: str) -> str:
        return f"<ref>{phrase}</ref>{boxes}"

    def _read(self, text: str) -> Iterable[Found | Problem]:
        shift = 0.5 if self.decode_at == "centre" else 0.0
        for match in _BLOCK.finditer(text):
            numbers = [int(one) for one in re.findall(r"\d+", match["rows"])]
            unit = (np.array(numbers) + shift) / _SCALE
            rows = unit.reshape(-1, 4).tolist()
            yield Found(*match.span(), rows, phrase=match["ref"])
