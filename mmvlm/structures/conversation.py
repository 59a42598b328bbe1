"""The conversation: turns of typed parts, free of template, tokenizer and syntax.

One annotation serves every system: readers produce it, chat templates render
it, codecs write its regions as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .boxes import Boxes

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class TextMark:
    """What some characters of a text are to the model, beside their spelling.

    Args:
        start (int): first character.
        stop (int): behind the last one.
        use (str): ``input``: an input of that kind fills their place; ``output``: a
            head reads the model's output there; ``markup``: a codec's own token,
            nothing else; ``literal``: ordinary text, even where the tokenizer holds
            these characters as one token.
        kind (str): of the input (``region``), or what the head learns (``mask``).
        index (int): counts the inputs, or what the head learns, of the sample.
    """

    start: int
    stop: int
    use: Literal["input", "output", "markup", "literal"]
    kind: str = ""
    index: int = 0

    def moved(self, by: int) -> TextMark:
        """Return the mark that many characters further on."""
        return replace(self, start=self.start + by, stop=self.stop + by) if by else self


@dataclass(frozen=True)
class Text:
    """A run of plain text.

    Args:
        text (str): the characters.
        kind (str): what they are to a codec that marks such words: an
            ``expression`` to be found, a ``category``, a ``predicate``, a
            ``question``, an ``option``; ``markup``: they hold tokens of the codec
            already (a reply of the model in a longer chat); empty for none of
            these. It takes no part in comparisons.
        marks (tuple[TextMark, ...]): in order, none across another.
    """

    text: str
    kind: str = field(default="", compare=False, repr=False)
    marks: tuple[TextMark, ...] = field(default=(), repr=False)

    def sliced(self, start: int, stop: int | None = None) -> Text:
        """Return some of the characters, with the marks that lie among them."""
        text = self.text[start:stop]
        inside = range(start, start + len(text) + 1)
        kept = (m for m in self.marks if m.start in inside and m.stop in inside)
        return replace(self, text=text, marks=tuple(m.moved(-start) for m in kept))

    def lstrip(self, characters: str | None = None) -> Text:
        """Return the text without such characters (white space) at its start."""
        return self.sliced(len(self.text) - len(self.text.lstrip(characters)))

    def rstrip(self, characters: str | None = None) -> Text:
        """Return the text without such characters (white space) at its end."""
        return self.sliced(0, len(self.text.rstrip(characters)))

    def strip(self, characters: str | None = None) -> Text:
        """Return the text without such characters (white space) at both ends."""
        return self.lstrip(characters).rstrip(characters)


@dataclass(frozen=True)
class Image:
    """The place of an image: ``index`` counts into ``Conversation.images``."""

    index: int


@dataclass(frozen=True)
class Region:
    """A region of an image, in absolute pixels of the original image.

    Args:
        image (int): index into ``Conversation.images``.
        boxes (Boxes): one or more boxes, frame ``pixel``.
        kind (str): what the boxes stand for: ``box`` or ``point`` (a point is a
            box of no extent).
        phrase (str | None): the words that the region grounds, None if bare.
        polygons (tuple): per box a tuple of flat ``x, y, x, y, ...`` rings.
        rles (tuple): per box its mask as COCO's run lengths ``{"size", "counts"}``
            or None; stands in for ``polygons``.
        score (float | None): of a region that a model says: the IoU that it expects
            with what was meant; None where nothing tells.
    """

    image: int
    boxes: Boxes
    kind: Literal["box", "point", "mask"] = "box"
    phrase: str | None = None
    polygons: tuple = ()
    rles: tuple = ()
    score: float | None = None


@dataclass(frozen=True)
class Media:
    """The place of an input that is no image: audio, video, depth, ...

    Args:
        modality (str): key of ``Conversation.media``.
        index (int): counts into ``Conversation.media[modality]``.
    """

    modality: str
    index: int


Part = Text | Image | Region | Media


@dataclass(frozen=True)
class Turn:
    """What one speaker says.

    Args:
        role (str): ``system``, ``user`` or ``assistant``.
        parts (tuple[Part, ...]): text, images, regions and media in order.
        supervised (bool | None): whether the turn is trained; None means that
            the role decides (assistant turns are).
    """

    role: Role
    parts: tuple[Part, ...]
    supervised: bool | None = None

    @property
    def is_supervised(self) -> bool:
        """Whether the model is trained to say this turn."""
        return self.role == "assistant" if self.supervised is None else self.supervised

    @property
    def text(self) -> str:
        """The turn's text parts, joined; images and regions leave no trace."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass
class Conversation:
    """Turns over a list of images.

    Args:
        turns (list[Turn]): in order.
        images (list): image references in order: a path relative to the
            dataset's image folder, or an array (H, W, 3) uint8 RGB.
        id (str): the sample's id as the file gives it.
        meta (dict): everything else that metrics or logs want (task, answer...).
        media (dict[str, list]): inputs that are no images, by modality: a path,
            an array, or a list of either that makes one input (an image and its
            depth map, the frames of a video).
    """

    turns: list[Turn]
    images: list[Any] = field(default_factory=list)
    id: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    media: dict[str, list] = field(default_factory=dict)

    @classmethod
    def from_texts(
        cls, *texts: str, images: Sequence[Any] = (), system: str | None = None
    ) -> Conversation:
        r"""Build a conversation from alternating user and assistant texts.

        Images are put in front of the first user text, a line each, as LLaVA's
        data have them.

        Example:
            >>> talk = Conversation.from_texts("Colour?", "Red.", images=["a.png"])
            >>> talk.turns[0].parts
            (Image(index=0), Text(text='\nColour?'))
        """
        turns = [] if system is None else [Turn("system", (Text(system),))]
        for number, text in enumerate(texts):
            parts: list[Part] = []
            for index in range(len(images) if number == 0 else 0):
                parts += [Text("\n"), Image(index)] if parts else [Image(index)]
            if parts and text:
                text = f"\n{text}"
            parts.append(Text(text))
            role = "user" if number % 2 == 0 else "assistant"
            turns.append(Turn(role, tuple(parts)))
        return cls(turns, list(images))

    @property
    def image_parts(self) -> list[Image]:
        """Image parts of all turns, in reading order."""
        return [p for turn in self.turns for p in turn.parts if isinstance(p, Image)]

    @property
    def media_parts(self) -> list[Media]:
        """Parts of all turns that are neither text nor images, in order."""
        return [p for turn in self.turns for p in turn.parts if isinstance(p, Media)]

    def check(self) -> None:
        """Check that placeholders, regions and inputs agree.

        Raises:
            ValueError: naming the sample, when an input is never shown, shown
                twice or missing, a region's image is not there, or when there
                is no turn.
        """
        if not self.turns:
            raise ValueError(f"sample '{self.id}': no turns.")
        indices = [part.index for part in self.image_parts]
        if sorted(indices) != list(range(len(self.images))):
            raise ValueError(
                f"sample '{self.id}': {len(indices)} image placeholders (indices "
                f"{indices}) but {len(self.images)} images {self.images!r:.200}."
            )
        for turn in self.turns:
            for part in turn.parts:
                if isinstance(part, Region) and not 0 <= part.image < len(self.images):
                    raise ValueError(
                        f"sample '{self.id}': a region of image {part.image}, but "
                        f"{len(self.images)} images."
                    )
        shown = sorted((part.modality, part.index) for part in self.media_parts)
        inputs = sorted((m, i) for m in self.media for i in range(len(self.media[m])))
        if shown != inputs:
            raise ValueError(
                f"sample '{self.id}': placeholders {shown} (modality, index) but "
                f"inputs {inputs}."
            )
