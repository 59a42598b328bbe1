"""LLaVA-1.5: two decimals of the padded square, as Python writes a list."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Region

from .base import Found, GroundingCodec, Problem

_NUMBER = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
_BOX = re.compile(rf"\[{','.join([_NUMBER] * 4)}\]")


@CODECS.register_module()
class LLaVACodec(GroundingCodec):
    """``[0.12, 0.3, 0.55, 0.87]``, several boxes joined by spaces.

    Coordinates are fractions of the square-padded image, held inside 0 to 1,
    rounded to ``digits`` and written without closing zeros, as the RefCOCO and
    Visual Genome turns of LLaVA's 665K mixture are.

    Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR
    2024, arXiv 2310.03744.

    Args:
        geometry (str): see :class:`GroundingCodec`.
        digits (int): decimals.
    """

    suspect = re.compile(r"\[\s*-?[.\d]")

    def __init__(self, geometry: str = "square_pad", digits: int = 2) -> None:
        super().__init__(geometry)
        self.digits = digits

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return 0.5 * 10**-self.digits

    def _write(self, region: Region, role: str) -> str:
        unit = np.clip(self.to_frame(region.boxes), 0.0, 1.0).tolist()
        rows = [[round(value, self.digits) for value in row] for row in unit]
        return " ".join(f"[{', '.join(map(str, row))}]" for row in rows)

    def _read(self, text: str) -> Iterable[Found | Problem]:
        for match in _BOX.finditer(text):
            row = [float(value) for value in match.groups()]
            yield Found(match.start(), match.end(), [row])
