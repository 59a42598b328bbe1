"""Scenes of TinyScenes: what lies where, seeded and free of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from . import handwriting
from .styles import PLAIN, SceneStyle

Kind = Literal["shape", "digit", "word"]

SHAPES = ("circle", "square", "triangle", "cross")
DIGITS = tuple("0123456789")
WORDS = ("cat", "dog", "sun", "car", "bus", "key", "box", "hat", "pen", "map")
NAMES: dict[str, tuple[str, ...]] = {"shape": SHAPES, "digit": DIGITS, "word": WORDS}
#: Of a tangle: shapes that lie below, and those that may lie over a shape or a word.
LOWER_SHAPES, UPPER_SHAPES = ("circle", "square"), ("cross", "ring", "stroke")

_MARGIN = 1
#: Largest rotation in degrees and shear of digits, and their ink. Training varies
#: them more than testing: it has to make up for the few hands that wrote them.
_POSES = {
    "train": dict(angle=18.0, slant=0.3, ink=(0.9, 1.8), stretch=1.25),
    "test": dict(angle=8.0, slant=0.12, ink=(1.0, 1.4), stretch=1.0),
}


@dataclass(frozen=True)
class SceneObject:
    """One thing in a scene.

    Args:
        kind (str): ``shape``, ``digit`` or ``word``.
        name (str): which one: ``circle``, ``7``, ``cat``.
        colour (str): a key of ``COLOURS``.
        position (str): the cell of the image its centre lies in.
        box (tuple[int, int, int, int]): x1, y1, x2, y2 in pixels, tight around
            the drawing.
        source (int): row of the handwritten digit; -1 for other kinds.
        angle (float): rotation in degrees.
        slant (float): horizontal shear of digits.
        ink (float): how dark, and so how thick, a digit is written.
        wobble (int): seed of the smooth warp of a digit; -1 for none.
        small (bool): a digit or word in small print.
        partner (str): what shares its box, in a tangle; empty elsewhere.
    """

    kind: Kind
    name: str
    colour: str
    position: str
    box: tuple[int, int, int, int]
    source: int = -1
    angle: float = 0.0
    slant: float = 0.0
    ink: float = 1.0
    wobble: int = -1
    small: bool = False
    partner: str = ""

    @property
    def covered_by(self) -> str:
        """The shape that lies over it in its box; empty for none."""
        return self.partner if self.partner in UPPER_SHAPES else ""

    @property
    def label(self) -> str:
        """Name it without colour: ``circle``, ``digit 7``, ``word cat``."""
        return self.name if self.kind == "shape" else f"{self.kind} {self.name}"

    @property
    def thing(self) -> str:
        """Name it as one sees it before reading: ``circle``, ``digit``, ``word``."""
        return self.name if self.kind == "shape" else self.kind

    @property
    def reference(self) -> str:
        """Point at it, and at nothing else in its scene: ``red digit``."""
        return f"{self.colour} {self.thing}"

    @property
    def phrase(self) -> str:
        """Name it with colour: ``red circle``."""
        return f"{self.colour} {self.label}"

    @property
    def column(self) -> str:
        """``left``, ``right`` or, where there are three, ``centre``."""
        return self.position.split()[1]

    @property
    def row(self) -> str:
        """``top``, ``bottom`` or, where there are three, ``middle``."""
        return self.position.split()[0]


@dataclass(frozen=True)
class Scene:
    """Objects, each of its own colour and cell, in reading order.

    Args:
        objects (tuple[SceneObject, ...]): in reading order; of a tangle the lower one
            first.
        background (tuple[int, int, int]): RGB.
        noise_seed (int): seed of the pixel noise.
        style (SceneStyle): of the world that the scene belongs to.
    """

    objects: tuple[SceneObject, ...]
    background: tuple[int, int, int]
    noise_seed: int
    style: SceneStyle = PLAIN

    @property
    def size(self) -> int:
        """Side in pixels."""
        return self.style.size

    @property
    def key(self) -> tuple:
        """What makes two scenes the same scene: objects with their exact boxes."""
        return tuple((o.phrase, o.box, o.source) for o in self.objects)


def pick(choices: Sequence, rng: np.random.Generator):
    """Draw one of several, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def _draw_share(shares: dict, rng: np.random.Generator):
    """Draw a key with the probability that is its value."""
    value = rng.random()
    for key, share in shares.items():
        value -= share
        if value < 0:
            return key
    return key


def _extent(
    kind: str,
    source: int,
    stretch: float,
    small: bool,
    rng: np.random.Generator,
    sides: tuple[int, int] = PLAIN.shape_sides,
) -> tuple[int, int]:
    """Draw width and height in pixels of an object.

    Digits keep their shape up to a factor of ``stretch``.
    """
    if kind == "word":
        if small:
            return int(rng.integers(13, 16)), int(rng.integers(6, 8))
        return int(rng.integers(20, 23)), int(rng.integers(9, 12))
    if kind == "digit":
        height = int(rng.integers(9, 12)) if small else int(rng.integers(18, 22))
        aspect = handwriting.aspect(source) * stretch ** rng.uniform(-1, 1)
        width = round(height * aspect)
        return (
            min(max(width, 4), 11) if small else min(max(width, 7), 21),
            height,
        )
    side = int(rng.integers(*sides))
    return side, side


def _place(
    position: str,
    width: int,
    height: int,
    style: SceneStyle,
    rng: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Draw a box inside a cell of the image."""
    row, column = position.split()
    cell = style.size // len(style.columns)
    left, top = style.columns.index(column) * cell, style.rows.index(row) * cell
    x = left + int(rng.integers(_MARGIN, cell - width - _MARGIN + 1))
    y = top + int(rng.integers(_MARGIN, cell - height - _MARGIN + 1))
    return x, y, x + width, y + height


def sample_scene(
    rng: np.random.Generator, split: str = "train", style: SceneStyle = PLAIN
) -> Scene:
    """Draw a scene.

    Args:
        rng (np.random.Generator): the only source of randomness.
        split (str): ``train`` or ``test``; decides whose handwriting is used.
        style (SceneStyle): how many objects, how large, where.

    Returns:
        Scene: objects in reading order.
    """
    count = _draw_share(style.count_shares, rng)
    positions = style.positions
    cells = sorted(rng.permutation(len(positions))[:count].tolist())
    each = 2 if style.tangled else 1
    colours = rng.permutation(tuple(style.colours))[: each * count].tolist()
    if style.tangled:
        pairs = zip(cells, colours[::2], colours[1::2], strict=True)
        tangles = [_sample_tangle(positions[c], pair, style, rng) for c, *pair in pairs]
        objects = tuple(item for tangle in tangles for item in tangle)
    else:
        objects = tuple(
            _sample_object(positions[cell], colour, split, style, rng)
            for cell, colour in zip(cells, colours, strict=True)
        )
    shade = int(rng.integers(0, 60))
    background = tuple(
        int(np.clip(shade + rng.integers(-12, 13), 0, 80)) for _ in "rgb"
    )
    return Scene(objects, background, int(rng.integers(2**31)), style)


def _sample_object(
    position: str,
    colour: str,
    split: str,
    style: SceneStyle,
    rng: np.random.Generator,
) -> SceneObject:
    """Draw what lies in a cell."""
    kind = _draw_share(style.kind_shares, rng)
    name = pick(NAMES[kind], rng)
    pose = _POSES[split]
    drawing = {}
    if kind == "digit":
        drawing = dict(
            source=handwriting.draw_row(int(name), split, rng),
            angle=float(rng.uniform(-pose["angle"], pose["angle"])),
            slant=float(rng.uniform(-pose["slant"], pose["slant"])),
            ink=float(rng.uniform(*pose["ink"])),
            wobble=int(rng.integers(2**31)) if split == "train" else -1,
        )
    small = bool(
        style.small_share and kind != "shape" and rng.random() < style.small_share
    )
    source = drawing.get("source", -1)
    extent = _extent(kind, source, pose["stretch"], small, rng, style.shape_sides)
    width, height = (style.scale * side for side in extent)
    return SceneObject(
        kind=kind,
        name=name,
        colour=colour,
        position=position,
        box=_place(position, width, height, style, rng),
        small=small,
        **drawing,
    )


def _sample_tangle(
    position: str, colours: list[str], style: SceneStyle, rng: np.random.Generator
) -> tuple[SceneObject, SceneObject]:
    """Draw two things that fill one box of a cell, the lower one first."""
    kind = _draw_share(style.kind_shares, rng)
    lower = pick(LOWER_SHAPES if kind == "shape" else NAMES[kind], rng)
    upper = pick(UPPER_SHAPES if kind == "shape" else ("stroke",), rng)
    extent = _extent(kind, -1, 1.0, False, rng, style.shape_sides)
    width, height = (style.scale * side for side in extent)
    box = _place(position, width, height, style, rng)
    return (
        SceneObject(kind, lower, colours[0], position, box, partner=upper),
        SceneObject("shape", upper, colours[1], position, box, partner=lower),
    )
