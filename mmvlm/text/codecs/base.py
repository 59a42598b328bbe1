"""The contract of grounding codecs."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from mmvlm.structures import Boxes, Region, Text, TextMark
from mmvlm.structures.conversation import Part

GEOMETRIES = ("stretch", "square_pad")
Size = tuple[int, int]
#: What is read so many times the image's size away from it is no place in it.
_FARTHEST = 1e6


@dataclass(frozen=True)
class Found:
    """A region as it stands in a text, still in the codec's own frame.

    Args:
        start (int): first character.
        end (int): behind the last one.
        values (Sequence): rows of four (box) or two (point) numbers, 0 to 1 in the
            frame of the codec.
        kind (str): ``box``, ``point`` or ``mask``.
        phrase (str | None): the words that it grounds, where the syntax says so.
    """

    start: int
    end: int
    values: Sequence
    kind: Literal["box", "point", "mask"] = "box"
    phrase: str | None = None


@dataclass(frozen=True)
class RegionToken:
    """A token that stands for one region, by its features or by what it predicts.

    Args:
        token (str): the characters.
        use (str): ``input``: an input of the kind fills its place; ``output``: a head
            reads it.
        kind (str): of that input (``region``), or what the head learns (``mask``).
    """

    token: str
    use: Literal["input", "output"]
    kind: str


@dataclass(frozen=True)
class Problem:
    """Something in a text that was meant as a region and is none.

    Args:
        start (int): first character.
        reason (str): why.
        end (int): behind the last one; 0: not known.
    """

    start: int
    reason: str
    end: int = 0


@dataclass(frozen=True)
class Decoding:
    """What a codec reads in a text.

    Args:
        regions (tuple[Region, ...]): in reading order; absolute pixels of the
            original image, as the text says them: corners may be swapped or lie
            outside.
        spans (tuple[tuple[int, int], ...]): where each stands in the text.
        problems (tuple[str, ...]): what could not be read, and why.
    """

    regions: tuple[Region, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["ok", "none", "malformed"]:
        """``ok``; ``none``: nothing that looks like a region; or ``malformed``."""
        if self.problems:
            return "malformed"
        return "ok" if self.regions else "none"

    def boxes(self, size: tuple[int, int]) -> Boxes:
        """Return the boxes (K, 4) of all regions, in order; K may be 0."""
        rows = [region.boxes.xyxy for region in self.regions]
        return Boxes(np.concatenate(rows) if rows else np.zeros((0, 4)), size)


class GroundingCodec(ABC):
    """Write regions as text and read them back; one syntax per subclass.

    A region with a phrase is written with its words; one without boxes is its words
    only. A mask is written as the box around it unless the codec says otherwise.
    Writing is exact to the system's own code and so may go outside the image
    where the system does; :class:`WriteRegions` decides what to do with such boxes
    before. Reading never raises: see :class:`Decoding`.

    Args:
        geometry (str): ``stretch``: coordinates are fractions of the image's
            sides; ``square_pad``: of the centred square that it is padded to; ``view``
            (some codecs): pixels of the image as the model sees it.

    Raises:
        ValueError: for another geometry.
    """

    #: Geometries that the syntax can have.
    geometries: ClassVar[tuple[str, ...]] = GEOMETRIES
    #: Height and width of each image of a conversation as the model sees it.
    views: tuple[Size, ...] = ()
    #: Kinds of regions that the syntax has.
    kinds: ClassVar[tuple[str, ...]] = ("box", "mask")
    #: Whether coordinates can be read back from the text.
    writes_coordinates: ClassVar[bool] = True
    #: What stands between a phrase and its boxes.
    phrase_separator: ClassVar[str] = " "
    #: Tokens that the tokenizer must hold.
    special_tokens: tuple[str, ...] = ()
    #: By role, the token that stands for each region in turns of that role.
    region_tokens: Mapping[str, RegionToken] = {}
    #: What looks like the opening of a region, wherever none was read.
    suspect: re.Pattern = re.compile("(?!)")
    #: Where in its cell a number is read; None: where the official code reads it.
    decode_at: str | None = "centre"

    def __init__(self, geometry: str = "stretch") -> None:
        if geometry not in self.geometries:
            raise ValueError(
                f"{type(self).__name__}: geometry='{geometry}', expected one of "
                f"{list(self.geometries)}."
            )
        self.geometry = geometry

    # What a syntax defines --------------------------------------------------

    @abstractmethod
    def _write(self, region: Region, role: str) -> str:
        """Return the text of the region's boxes, of which there is at least one."""

    @abstractmethod
    def _read(self, text: str) -> Iterable[Found | Problem]:
        """Yield what stands in a text; what else looks like one, the base finds."""

    @abstractmethod
    def max_error(self, size: tuple[int, int]) -> float:
        """Return the most that a box inside the image moves, written and read.

        Args:
            size (tuple[int, int]): height and width of the image.

        Returns:
            float: a fraction of the frame's longer side.
        """

    def mark(self, text: Text, role: str) -> str:
        """Return words with the marks that the syntax puts around their kind."""
        return text.text

    # What callers use -------------------------------------------------------

    def encode(self, region: Region, role: str = "assistant") -> str:
        """Return a region as text.

        Args:
            region (Region): absolute pixels.
            role (str): who says it; some syntaxes write questions otherwise.

        Raises:
            ValueError: for a kind that the syntax does not have, or a region
                without boxes and words.
        """
        if region.kind not in self.kinds:
            raise ValueError(
                f"{type(self).__name__} has no syntax for regions of kind "
                f"'{region.kind}', only {list(self.kinds)}."
            )
        if not len(region.boxes):
            if not region.phrase:
                raise ValueError("a region without boxes and without a phrase.")
            return self._write_phrase(region.phrase, "", role)
        written = self._write(region, role)
        if region.phrase is None:
            return written
        return self._write_phrase(region.phrase, written, role)

    def write(
        self,
        parts: Sequence[Part],
        role: str,
        regions: Mapping[str, list[Region]] | None = None,
    ) -> list[Part]:
        """Return the parts of a turn with all regions and marks as text.

        The codec's own ``region_tokens`` carry a mark (:class:`TextMark`) with their
        use; where other words spell such a token they are marked as literal text.

        Args:
            parts (Sequence[Part]): what the turn says.
            role (str): who says it.
            regions (Mapping[str, list[Region]] | None): by use (``input``,
                ``output``), the regions that the sample's tokens stand for; this
                turn's are appended, and the marks' indices count into them.

        Raises:
            ValueError: for a region that the syntax cannot write.
        """
        regions = {"input": [], "output": []} if regions is None else regions
        written: list[Part] = []
        for part in parts:
            if isinstance(part, Region):
                part = self._write_region(part, role, regions)
            elif isinstance(part, Text) and part.kind == "markup":
                part = self._marked(part, "markup")
            elif isinstance(part, Text) and part.kind:
                part = Text(self.mark(part, role))
            if written and isinstance(part, Text) and isinstance(written[-1], Text):
                left = written.pop()
                text = self._join(left.text, part.text)
                shift = len(text) - len(part.text)
                moved = (mark.moved(shift) for mark in part.marks)
                part = Text(text, marks=(*left.marks, *moved))
            written.append(part)
        return [
            self._marked(part, "literal") if isinstance(part, Text) else part
            for part in written
        ]

    def opens_question(self, answer_is_grounded: bool) -> str:
        """Return what stands before the words of a question; most say nothing."""
        return ""

    def decode(self, text: str, size: tuple[int, int]) -> Decoding:
        """Return the regions that a text names.

        Args:
            text (str): whatever a model said.
            size (tuple[int, int]): height and width of the original image.
        """
        try:
            return self._decode(text, size)
        except Exception as error:  # numbers that a codec of others did not expect
            reason = f"{type(self).__name__} cannot read it: {error!r:.200}"
            return Decoding(problems=(reason,))

    def _decode(self, text: str, size: tuple[int, int]) -> Decoding:
        regions, spans, problems = [], [], []
        items = list(self._read(text))
        items += leftovers(text, [(i.start, i.end) for i in items], self.suspect)
        for found in sorted(items, key=lambda item: item.start):
            if isinstance(found, Problem):
                problems.append(f"character {found.start}: {found.reason}")
                continue
            rows = np.asarray(found.values, dtype=np.float64)
            if not (np.abs(rows) < _FARTHEST).all():
                shown = str(rows.tolist())[:80]
                problems.append(f"character {found.start}: {shown} is no place")
                continue
            if found.kind == "point":
                rows = np.concatenate([rows, rows], axis=1)
            boxes = self.from_frame(rows.reshape(-1, 4), size)
            regions.append(Region(0, boxes, found.kind, found.phrase))
            spans.append((found.start, found.end))
        return Decoding(tuple(regions), tuple(spans), tuple(problems))

    def centred(self) -> GroundingCodec:
        """Return the codec that reads every number in the middle of its cell.

        Official codes read some at an edge, and their scores with them. Where the
        config chose ``decode_at`` itself, the codec is returned as it is.
        """
        if self.decode_at is not None:
            return self
        codec = copy.copy(self)
        codec.decode_at = "centre"
        return codec

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return where a text spells any of the codec's ``region_tokens``."""
        tokens = {one.token for one in self.region_tokens.values()}
        longest_first = sorted(tokens, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first)) or "(?!)"
        return [match.span() for match in re.finditer(pattern, text)]

    # Geometry ---------------------------------------------------------------

    def shown_as(self, views: Sequence[Size]) -> GroundingCodec:
        """Return the codec for images that the model sees in these sizes.

        Args:
            views (Sequence[tuple[int, int]]): height and width of each image of a
                conversation, whole, before it is cut into views; only ``view`` asks.
        """
        if self.geometry != "view":
            return self
        codec = copy.copy(self)
        codec.views = tuple(views)
        return codec

    def view_size(self, image: int, size: Size) -> Size:
        """Return the size in which an image is seen; not known: its own ``size``."""
        return self.views[image] if image < len(self.views) else size

    def to_frame(self, boxes: Boxes) -> np.ndarray:
        """Return boxes (K, 4) as fractions of the codec's frame."""
        boxes = boxes.to("pixel")
        if self.geometry == "square_pad":
            boxes = boxes.pad_to_square()
        return boxes.to("unit").xyxy

    def from_frame(self, unit: np.ndarray, size: tuple[int, int]) -> Boxes:
        """Return boxes in pixels of an image of ``size``: undo :meth:`to_frame`."""
        if self.geometry != "square_pad":
            return Boxes(unit, size, "unit").to("pixel")
        square = Boxes(unit, (max(size), max(size)), "unit").to("pixel")
        return square.unpad_from_square(size)

    # Marks ------------------------------------------------------------------

    def _write_region(
        self, region: Region, role: str, regions: Mapping[str, list[Region]]
    ) -> Text:
        """Return a region as text, a mark on each token that stands for it."""
        own = text = self.encode(region, role)
        token = self.region_tokens.get(role)
        if token is None or not len(region.boxes):
            return Text(text)
        if region.phrase and token.token in region.phrase:
            # What the phrase spells is none: the same text without it tells where.
            hidden = region.phrase.replace(token.token, "\0" * len(token.token))
            own = self.encode(replace(region, phrase=hidden), role)
        starts = [m.start() for m in re.finditer(re.escape(token.token), own)]
        marks = []
        for start, one in zip(starts, _shared(region, len(starts)), strict=True):
            end, index = start + len(token.token), len(regions[token.use])
            marks.append(TextMark(start, end, token.use, token.kind, index))
            regions[token.use].append(one)
        return Text(text, marks=tuple(marks))

    def _marked(self, text: Text, use: Literal["markup", "literal"]) -> Text:
        """Mark the region tokens of a text that have no mark yet."""
        known = {mark.start for mark in text.marks}
        spans = self.token_spans(text.text)
        new = [TextMark(*span, use) for span in spans if span[0] not in known]
        if not new:
            return text
        marks = sorted([*text.marks, *new], key=lambda mark: mark.start)
        return replace(text, marks=tuple(marks))

    # For subclasses ---------------------------------------------------------

    def _write_phrase(self, phrase: str, boxes: str, role: str) -> str:
        return f"{phrase}{self.phrase_separator}{boxes}" if boxes else phrase

    def _join(self, left: str, right: str) -> str:
        """Return two neighbours as one text, which ends with all of ``right``."""
        return left + right


def _shared(region: Region, count: int) -> list[Region]:
    """Return what each of ``count`` tokens stands for: all, or one box and its mask."""
    if count in (0, 1):
        return [region] * count
    if count != len(region.boxes):
        raise ValueError(f"{count} tokens for {len(region.boxes)} boxes of a region.")
    return [
        replace(
            region,
            boxes=Boxes(region.boxes.xyxy[number], region.boxes.size),
            polygons=region.polygons[number : number + 1],
            rles=region.rles[number : number + 1],
        )
        for number in range(count)
    ]


def points_or_boxes(region: Region, rows: np.ndarray) -> np.ndarray:
    """Return the first corner of each row for points, the row itself for boxes."""
    return rows[:, :2] if region.kind == "point" else rows


def leftovers(text: str, spans: Iterable[tuple[int, int]], suspect: Any) -> list:
    """Return problems for what looks like a region outside the spans that are one.

    Args:
        text (str): the whole text.
        spans (Iterable[tuple[int, int]]): what was read.
        suspect (re.Pattern): what looks like the opening of a region.
    """
    blank = list(text)
    for start, end in spans:
        blank[start:end] = " " * max(0, end - start)
    return [
        Problem(at, f"cannot read {text[at : at + 40]!r}")
        for at in (match.start() for match in suspect.finditer("".join(blank)))
    ]
