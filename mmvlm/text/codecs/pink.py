"""PINK and others that write plain fractions with three decimals."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Boxes, Region, Text

from .base import Found, GroundingCodec, Problem

_NUMBER = re.compile(r"\d\.\d{3}")
_BOX = re.compile(r"\[(\d\.\d{3},\d\.\d{3},\d\.\d{3},\d\.\d{3})\]")
_MARKS = {
    "expression": "des",
    "predicate": "rel",
    "category": "cls",
    "question": "qes",
    "option": "opt",
}


@CODECS.register_module()
class PinkCodec(GroundingCodec):
    """``[0.120,0.304,0.550,0.871]``, several boxes joined by spaces.

    Coordinates are fractions of the image's sides, three decimals, no spaces; as
    in PINK's code a box outside the image is not held inside. With ``add_marks``
    the parts of a question stand in tags: boxes in ``<loc>``, expressions in
    ``<des>``, class names in ``<cls>``, predicates in ``<rel>``, questions in
    ``<qes>``, options in ``<opt>``; answers have none. Without marks it is the plain
    codec of many systems (ChatSpot's coordinates).

    Paper: Xuan et al., "Pink: Unveiling the Power of Referential Comprehension for
    Multi-modal LLMs", CVPR 2024, arXiv 2310.00582.

    Args:
        geometry (str): ``square_pad`` is PINK's ``expand2square``.
        add_marks (bool): put tags into questions.
    """

    suspect = re.compile(r"\[\s*-?[.\d]")

    def __init__(self, geometry: str = "stretch", add_marks: bool = False) -> None:
        super().__init__(geometry)
        self.add_marks = add_marks
        if add_marks:
            names = ("des", "loc", "rel", "cls", "qes", "opt")
            self.special_tokens = tuple(
                tag for name in names for tag in (f"<{name}>", f"</{name}>")
            )

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return 0.0005

    def to_frame(self, boxes: Boxes) -> np.ndarray:
        """Return boxes (K, 4) as fractions of the codec's frame.

        PINK multiplies by the side's reciprocal, which rounds pixels such as 24 of
        640 (0.0375) to another third decimal than a division does.
        """
        boxes = boxes.to("pixel")
        if self.geometry == "square_pad":
            boxes = boxes.pad_to_square()
        height, width = boxes.size
        return boxes.xyxy * np.array([1 / width, 1 / height] * 2)

    def mark(self, text: Text, role: str) -> str:
        """Return words with the marks of their kind."""
        name = _MARKS.get(text.kind)
        if name is None or not self.add_marks or role != "user":
            return text.text
        return f"<{name}>{text.text}</{name}>"

    def _write(self, region: Region, role: str) -> str:
        texts = [
            f"[{','.join(f'{value:.3f}' for value in row)}]"
            for row in self.to_frame(region.boxes).tolist()
        ]
        if self.add_marks and role == "user":
            texts = [f"<loc>{text}</loc>" for text in texts]
        return " ".join(texts)

    def _read(self, text: str) -> Iterable[Found | Problem]:
        found: list[Found | Problem] = [
            Found(m.start(), m.end(), [[float(value) for value in m[1].split(",")]])
            for m in _BOX.finditer(text)
        ]
        if not found:
            # PINK takes four numbers for a box wherever they stand.
            numbers = list(_NUMBER.finditer(text))
            if len(numbers) == 4:
                row = [float(number[0]) for number in numbers]
                found = [Found(numbers[0].start(), numbers[-1].end(), [row])]
        return found


def eval_box(text: str) -> list[float] | None:
    """Return the box that PINK's evaluation takes an answer for, None for no box.

    Args:
        text (str): an answer; a box is four numbers of three decimals, no more and
            no fewer, wherever they stand.
    """
    numbers = _NUMBER.findall(text)
    return [float(number) for number in numbers] if len(numbers) == 4 else None
