"""VisionLLM: a class token and offsets from a place, in 1/512 of the sides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Region

from .base import Found, GroundingCodec, Problem

RANGE = 512
NUM_CLASSES = 512
_OBJECT = re.compile(r"<c(\d{1,9})>" + r"\s*<p(-?\d{1,9})>" * 4)


@CODECS.register_module()
class VisionLLMCodec(GroundingCodec):
    """``<c0> <p-92> <p-6> <p21> <p57>``, several objects joined by spaces.

    ``<cK>`` is the K-th class of the categories that the instruction names; the
    numbers are offsets in 1/512 of width and height from ``location``. In the paper
    that is the place of the image token that answers; a text alone does not know it,
    so the codec has one place for all (the centre, from which every offset fits).
    See :func:`encode_offsets` for tokens with places of their own.

    Paper: Wang et al., "VisionLLM: Large Language Model is also an Open-Ended
    Decoder for Vision-Centric Tasks", NeurIPS 2023, arXiv 2305.11175. The code was
    not released: rounding (half up, held inside -512 .. 512) is a choice.

    Args:
        geometry (str): see :class:`GroundingCodec`.
        categories (Sequence[str]): phrases in the order of their class tokens; a
            region without phrase is class 0, as the only one of a grounding
            instruction.
        location (Sequence[float]): x and y, fractions of the sides.
    """

    suspect = re.compile(r"<c\d+>|<p-?\d+>")

    def __init__(
        self,
        geometry: str = "stretch",
        categories: Sequence[str] = (),
        location: Sequence[float] = (0.5, 0.5),
    ) -> None:
        super().__init__(geometry)
        self.categories = tuple(categories)
        self.location = tuple(location)
        classes = (f"<c{number}>" for number in range(NUM_CLASSES))
        offsets = (f"<p{number}>" for number in range(-RANGE, RANGE + 1))
        self.special_tokens = (*classes, *offsets)

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return 0.5 / RANGE

    def _write(self, region: Region, role: str) -> str:
        number = self._class(region.phrase)
        return " ".join(
            " ".join([f"<c{number}>", *(f"<p{value}>" for value in offsets)])
            for offsets in (
                encode_offsets(row, self.location)
                for row in self.to_frame(region.boxes)
            )
        )

    def _write_phrase(self, phrase: str, boxes: str, role: str) -> str:
        # With categories the class token is the phrase.
        if boxes and self.categories:
            return boxes
        return f"{phrase} {boxes}" if boxes else phrase

    def _class(self, phrase: str | None) -> int:
        if phrase is None or not self.categories:
            return 0
        if phrase not in self.categories:
            raise ValueError(
                f"VisionLLMCodec: '{phrase}' is none of its {len(self.categories)} "
                "categories."
            )
        return self.categories.index(phrase)

    def _read(self, text: str) -> Iterable[Found | Problem]:
        for item, match in zip(read_objects(text), _OBJECT.finditer(text), strict=True):
            if not item["valid"]:
                reason = f"outside the vocabulary: {match[0]!r}"
                yield Problem(match.start(), reason, match.end())
                continue
            known = item["cls"] < len(self.categories)
            phrase = self.categories[item["cls"]] if known else None
            row = decode_offsets(item["offsets"], self.location)
            yield Found(match.start(), match.end(), [row], phrase=phrase)


def encode_offsets(
    coordinates: Sequence[float], location: Sequence[float]
) -> list[int]:
    """Return offsets of x, y, x, y, ... (fractions) from a place, in 1/512."""
    values = np.asarray(coordinates, dtype=np.float64)
    origin = np.resize(np.asarray(location, dtype=np.float64), values.shape)
    bins = np.floor((values - origin) * RANGE + 0.5)
    return np.clip(bins, -RANGE, RANGE).astype(int).tolist()


def decode_offsets(offsets: Sequence[int], location: Sequence[float]) -> list[float]:
    """Return x, y, x, y, ... (fractions) of offsets from a place."""
    values = np.asarray(offsets, dtype=np.float64) / RANGE
    origin = np.resize(np.asarray(location, dtype=np.float64), values.shape)
    return (values + origin).tolist()


def read_objects(text: str) -> list[dict]:
    """Return objects in a text: ``cls``, ``offsets`` and ``valid``.

    An object is a class token and four location tokens with nothing but white space
    between; it is valid when all five are in the vocabulary.
    """
    objects = []
    for match in _OBJECT.finditer(text):
        number, *offsets = map(int, match.groups())
        valid = number < NUM_CLASSES and all(abs(value) <= RANGE for value in offsets)
        objects.append(dict(cls=number, offsets=offsets, valid=valid))
    return objects
