"""One token per region: its place or its mask goes beside the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mmvlm.registry import CODECS
from mmvlm.structures import Region

from .base import Found, GroundingCodec, Problem, RegionToken


@CODECS.register_module()
class RegionTokenCodec(GroundingCodec):
    """``<bbox>`` or ``[SEG]``: the text holds no coordinates.

    GPT4RoI fills ``<bbox>`` in questions with features of the region; LISA says
    ``[SEG]`` in answers, and a mask head reads the state there; NExT-Chat's ``<at>``
    is read by a head of boxes. The regions themselves are kept by
    :class:`WriteRegions`, one per token, in reading order. Read back, a token is a
    region without boxes, of the kind that the head makes: how many there are is all
    that the text tells. In a reply only the token itself counts, as it does for the
    head, not words that spell it. The token of questions, where it is another one, is
    a problem of the reply that says it.

    Args:
        token (str): stands for one region.
        separator (str): between the tokens of one region part.
        before_phrase (bool): put the token in front of the words instead of behind.
        question_token (str | None): stands for one region in questions; None means
            ``token`` there too.
        fills (str): kind of input that fills tokens in questions; a model without
            such inputs takes them for tokens of the text.
        reads (str): what the head learns that reads tokens in answers, which is also
            the kind of the regions read back, unless it is none (then ``mask``).
        phrase_marks (Sequence[str] | None): two tokens around the words of a region,
            by which they are read back; GLaMM's are ``<p>`` and ``</p>``.
        write_phrases (bool): say a region's words beside its tokens; LISA answers with
            the token alone.

    Raises:
        ValueError: for other than two marks, or marks with ``before_phrase``.
    """

    kinds = ("box", "point", "mask")
    writes_coordinates = False

    def __init__(
        self,
        token: str = "[SEG]",
        separator: str = " ",
        before_phrase: bool = False,
        question_token: str | None = None,
        fills: str = "region",
        reads: str = "mask",
        *,
        phrase_marks: Sequence[str] | None = None,
        write_phrases: bool = True,
    ) -> None:
        super().__init__()
        self.separator = separator
        self.before_phrase = before_phrase
        self.write_phrases = write_phrases
        user_token = question_token or token
        self.phrase_marks = tuple(phrase_marks or ())
        if self.phrase_marks and (len(self.phrase_marks) != 2 or before_phrase):
            raise ValueError(
                f"RegionTokenCodec: phrase_marks={phrase_marks}, expected two tokens "
                "around words that stand before the region's."
            )
        names = (token, user_token, *self.phrase_marks)
        self.special_tokens = tuple(dict.fromkeys(names))
        self.region_tokens = {
            "user": RegionToken(user_token, "input", fills),
            "assistant": RegionToken(token, "output", reads),
        }

    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box moves, a fraction of the longer side."""
        return float("inf")

    def _write(self, region: Region, role: str) -> str:
        token = self.region_tokens["user" if role == "user" else "assistant"].token
        return self.separator.join([token] * len(region.boxes))

    def _write_phrase(self, phrase: str, boxes: str, role: str) -> str:
        if not boxes:
            return phrase
        if not self.write_phrases:
            return boxes
        if self.phrase_marks:
            phrase = f"{self.phrase_marks[0]} {phrase} {self.phrase_marks[1]}"
        return f"{boxes} {phrase}" if self.before_phrase else f"{phrase} {boxes}"

    def _read(self, text: str) -> Iterable[Found | Problem]:
        answer = self.region_tokens["assistant"]
        kind = answer.kind if answer.kind in self.kinds else "mask"
        tokens = {one.token for one in self.region_tokens.values()}
        pattern = "|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))
        found = f"(?P<token>{pattern})"
        if self.phrase_marks:
            first, last = map(re.escape, self.phrase_marks)
            # A head reads a token inside the marks as well, so no phrase holds one.
            inside = rf"(?:(?!{first}|{last}|{pattern}).)*"
            found = rf"(?:{first}(?P<phrase>{inside}){last}\s*)?{found}"
        for match in re.finditer(found, text, re.DOTALL):
            if match["token"] != answer.token:  # no head reads it
                reason = f"{match['token']} stands for a region in questions alone"
                yield Problem(match.start("token"), reason, match.end())
                continue
            phrase = (match.groupdict().get("phrase") or "").strip() or None
            yield Found(match.start(), match.end(), [], kind, phrase)


def inline_boxes(text: str) -> list[list[float]]:
    """Return the boxes that a text says as ``<bbox> x1 y1 x2 y2 </bbox>``.

    GPT4RoI's demo takes regions that way. Marks around anything but four whole numbers
    hold no box.

    Example:
        >>> inline_boxes("What is <bbox> 1 2 30 4 </bbox>? <bbox>1 2 3.5 4</bbox>")
        [[1.0, 2.0, 30.0, 4.0]]
    """
    pattern = r"<bbox>\s*" + r"\s+".join([r"(\d{1,9})"] * 4) + r"\s*</bbox>"
    return [list(map(float, found)) for found in re.findall(pattern, text)]
