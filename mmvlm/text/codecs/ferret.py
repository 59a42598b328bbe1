"""Ferret: integers of a 1000 x 1000 image, and a token for region features."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Boxes, Region

from .base import Found, GroundingCodec, Problem, RegionToken, points_or_boxes

_STRICT = r"\[(\d+), (\d+), (\d+), (\d+)\]"
_INTEGER = re.compile(r"\s*([+-]?\d{1,9})\s*")
_STOPS = re.compile(r"[.,;!?]")


@CODECS.register_module()
class FerretCodec(GroundingCodec):
    """``a dog [120, 304, 550, 871]``, in questions followed by ``<region_fea>``.

    Boxes are first held inside 0 .. width - 1 and 0 .. height - 1, then truncated to
    thousandths of the sides. Points are ``[x, y]``; free forms are written as the
    box around them. Several boxes are joined by spaces.

    Paper: You et al., "Ferret: Refer and Ground Anything Anywhere at Any
    Granularity", ICLR 2024, arXiv 2310.07704.

    Args:
        geometry (str): see :class:`GroundingCodec`.
        feature_token (str | None): stands behind each region of a question, whose
            features fill it; None leaves it out.
        decode_at (str | None): where in its bin a read number lies. ``official``: at
            the lower edge, and cut to whole pixels; ``centre``: in the middle, which
            is off by half a bin at most (the last bin reaches over a pixel, see
            above); None: ``official``, but the middle in replies.
        fills (str): kind of input that fills ``feature_token``; a model without such
            inputs takes it for a token of the text.

    Raises:
        ValueError: for another ``decode_at``.
    """

    kinds = ("box", "point", "mask")

    def __init__(
        self,
        geometry: str = "stretch",
        feature_token: str | None = "<region_fea>",
        decode_at: str | None = None,
        fills: str = "region",
    ) -> None:
        super().__init__(geometry)
        if decode_at not in (None, "official", "centre"):
            raise ValueError(
                f"FerretCodec: decode_at='{decode_at}', expected 'official' or "
                "'centre'."
            )
        self.feature_token = feature_token
        if feature_token:
            self.special_tokens = (feature_token,)
            self.region_tokens = {"user": RegionToken(feature_token, "input", fills)}
        self.decode_at = decode_at

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        pixel = 1 / min(size)  # boxes end at the last pixel, not behind it
        return 0.0005 + pixel if self.decode_at == "centre" else 0.001 + 2 * pixel

    def to_frame(self, boxes: Boxes) -> np.ndarray:
        """Return boxes (K, 4) as fractions of the codec's frame."""
        boxes = boxes.to("pixel")
        if self.geometry == "square_pad":
            boxes = boxes.pad_to_square()
        height, width = boxes.size
        last = np.array([width - 1, height - 1] * 2, dtype=np.float64)
        side = np.array([width, height] * 2, dtype=np.float64)
        return np.trunc(np.clip(boxes.xyxy, 0, last) * (1000 / side)) / 1000

    def from_frame(self, unit: np.ndarray, size: tuple[int, int]) -> Boxes:
        """Return boxes in pixels of an image of ``size``."""
        if self.decode_at == "centre":
            # The last bin that is written stands for all up to the image's end.
            sides = (max(size),) * 2 if self.geometry == "square_pad" else size[::-1]
            last = np.trunc((np.array(sides * 2) - 1) * (1000 / np.array(sides * 2)))
            end = np.where(unit * 1000 > last - 0.5, 1.0, unit + 0.001)
            return super().from_frame((unit + np.maximum(end, unit)) / 2, size)
        boxes = super().from_frame(unit, size)
        # 64 / 1000 * 500 may come out just below 32.
        return Boxes(np.trunc(boxes.xyxy + 1e-9), size)

    def _write(self, region: Region, role: str) -> str:
        unit = points_or_boxes(region, self.to_frame(region.boxes))
        texts = [
            f"[{', '.join(str(round(value * 1000)) for value in row)}]" for row in unit
        ]
        if self.feature_token and role == "user":
            texts = [f"{text} {self.feature_token}" for text in texts]
        return " ".join(texts)

    def _read(self, text: str) -> Iterable[Found | Problem]:
        end = 0
        for close in (match.start() for match in re.finditer(r"\]", text)):
            start = text.rfind("[", end, close)
            content = text[start + 1 : close] if start >= 0 else None
            end = close + 1
            if content is None:
                yield Problem(close, "a bracket that nothing opens")
                continue
            values = _integers(content)
            if values is None or len(values) not in (2, 4):
                yield Problem(start, f"no box or point: {text[start:end][:40]!r}")
                continue
            phrase = _entity(text[:start].rpartition("]")[2], "]" not in text[:start])
            kind = "box" if len(values) == 4 else "point"
            rows = [[value / 1000 for value in values]]
            yield Found(start, end, rows, kind, phrase or None)
        for match in re.finditer(r"\[\s*-?\d", text[end:]):
            yield Problem(end + match.start(), "a bracket that nothing closes")


def _integers(content: str) -> list[int] | None:
    found = [_INTEGER.fullmatch(piece) for piece in content.split(",")]
    return [int(one[1]) for one in found] if all(found) else None


def _entity(before: str, is_first: bool) -> str:
    """Return the words before a box: all of them, or those behind the next stop."""
    if not is_first:
        stop = _STOPS.search(before)
        before = before[stop.end() :] if stop else ""
    return before.rpartition("[")[2].strip()


def eval_entities(
    text: str, size: tuple[int, int]
) -> tuple[list[str], list[list[int]]]:
    """Return entities and pixel boxes as Ferret's REC evaluation reads them.

    Args:
        text (str): an answer.
        size (tuple[int, int]): height and width of the image.

    Raises:
        ValueError: for a bracket whose content is no list of integers (the
            evaluation counts no box then).
        IndexError: for fewer than four integers (the evaluation stops there).
    """
    height, width = size
    names, boxes, end = [], [], 0
    for match in re.finditer(r"\]", text):
        start = text.rfind("[", end, match.start())
        values = [int(v) for v in text[max(start + 1, end) : match.start()].split(",")]
        values = [values[number] for number in range(4)]
        ratios = (width / 1000, height / 1000) * 2  # first, as rounding shows it
        boxes.append([int(v * r) for v, r in zip(values, ratios, strict=True)])
        names.append(_entity(text[end:start], end == 0))
        end = match.end()
    return names, boxes


def template_entities(
    text: str, size: tuple[int, int]
) -> tuple[list[str], list[list[int]]]:
    """Return entities and distinct pixel boxes as Ferret's evaluation reads templates.

    An answer is entities, each behind its strictly written box, joined by `` . ``.
    Boxes that fall on the same pixels count once, and as many distinct ones are taken
    out of the text.

    Args:
        text (str): an answer.
        size (tuple[int, int]): height and width of the image.
    """
    height, width = size
    ratios = (width / 1000, height / 1000) * 2
    read = dict.fromkeys(tuple(map(int, row)) for row in re.findall(_STRICT, text))
    boxes = dict.fromkeys(
        tuple(int(v * ratio) for v, ratio in zip(row, ratios, strict=True))
        for row in read
    )
    for row in list(read)[: len(boxes)]:
        text = text.replace(str(list(row)), "")
    parts = text.removesuffix(" .").split(" . ")
    return [part.strip() for part in parts if part.strip()], list(map(list, boxes))
