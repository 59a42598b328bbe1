"""One token per region: its place or its mask goes beside the text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mmvlm.registry import CODECS
from mmvlm.structures import Region

from .base import Found, GroundingCodec, Problem


@CODECS.register_module()
class RegionTokenCodec(GroundingCodec):
    """``<bbox>`` or ``[SEG]``: the text holds no coordinates.

    GPT4RoI fills ``<bbox>`` in questions with features of the region; LISA says
    ``[SEG]`` in answers, and a mask head reads the state there. The regions
    themselves are kept by :class:`WriteRegions` under ``regions``, one per token,
    in reading order. Read back, a token is a region without boxes: how many there
    are is all that the text tells.

    Args:
        token (str): stands for one region.
        separator (str): between the tokens of one region part.
        before_phrase (bool): put the token in front of the words instead of behind.

    """

    kinds = ("box", "point", "mask")
    writes_coordinates = False

    def __init__(
        self, token: str = "[SEG]", separator: str = " ", before_phrase: bool = False
    ) -> None:
        super().__init__()
        self.token = token
        self.separator = separator
        self.before_phrase = before_phrase
        self.special_tokens = (token,)
        self.feature_token = token

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return float("inf")

    def _write(self, region: Region, role: str) -> str:
        return self.separator.join([self.token] * len(region.boxes))

    def _write_phrase(self, phrase: str, boxes: str, role: str) -> str:
        if not boxes:
            return phrase
        return f"{boxes} {phrase}" if self.before_phrase else f"{phrase} {boxes}"

    def _read(self, text: str) -> Iterable[Found | Problem]:
        for match in re.finditer(re.escape(self.token), text):
            yield Found(match.start(), match.end(), [], kind="mask")
