"""OFA: one of 1000 bins per number, of the image stretched to a square."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from mmvlm.registry import CODECS
from mmvlm.structures import Boxes, Region

from .base import Found, GroundingCodec, Problem

_BOX = re.compile(r"\s*".join([r"<bin_(\d{1,9})>"] * 4))


@CODECS.register_module()
class OFACodec(GroundingCodec):
    """``<bin_417> <bin_558> <bin_501> <bin_908>``, several boxes joined by spaces.

    The box is scaled with the image to ``image_size``, in float32, divided by it
    and rounded (half to even) to one of ``num_bins``.

    Paper: Wang et al., "OFA: Unifying Architectures, Tasks, and Modalities Through a
    Simple Sequence-to-Sequence Learning Framework", ICML 2022, arXiv 2202.03052.

    Args:
        geometry (str): see :class:`GroundingCodec`.
        num_bins (int): tokens for numbers.
        image_size (int): side of the square that images are stretched to.
        decode_by (int | None): what a bin is divided by; None: ``num_bins`` - 1 as
            in OFA's code, ``num_bins`` as in mmpretrain's.
    """

    suspect = re.compile("<bin_")

    def __init__(
        self,
        geometry: str = "stretch",
        num_bins: int = 1000,
        image_size: int = 512,
        decode_by: int | None = None,
    ) -> None:
        super().__init__(geometry)
        self.num_bins = num_bins
        self.image_size = image_size
        self.decode_by = decode_by or num_bins - 1
        self.special_tokens = tuple(f"<bin_{number}>" for number in range(num_bins))

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return (
            0.5 / (self.num_bins - 1)
            + 1e-6
            + (self.decode_by == self.num_bins) / (self.num_bins)
        )

    def to_frame(self, boxes: Boxes) -> np.ndarray:
        """Return boxes (K, 4) as fractions of the codec's frame."""
        boxes = boxes.to("pixel")
        if self.geometry == "square_pad":
            boxes = boxes.pad_to_square()
        height, width = boxes.size
        side = np.float32(self.image_size)
        ratio = np.array([side / np.float32(width), side / np.float32(height)] * 2)
        scaled = boxes.xyxy.astype(np.float32) * ratio.astype(np.float32)
        return np.clip(scaled / side, 0, 1)

    def _write(self, region: Region, role: str) -> str:
        scaled = self.to_frame(region.boxes) * np.float32(self.num_bins - 1)
        return " ".join(
            " ".join(f"<bin_{int(value)}>" for value in row) for row in np.rint(scaled)
        )

    def _read(self, text: str) -> Iterable[Found | Problem]:
        for match in _BOX.finditer(text):
            bins = [int(number) for number in match.groups()]
            if max(bins) >= self.num_bins:
                reason = f"bin {max(bins)} of {self.num_bins}"
                yield Problem(match.start(), reason, match.end())
            else:
                row = [number / self.decode_by for number in bins]
                yield Found(match.start(), match.end(), [row])
