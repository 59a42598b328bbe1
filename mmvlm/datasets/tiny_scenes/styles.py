"""Styles of TinyScenes: how large, how many, how small the print, what is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: RGB of the plain style's colours.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (40, 190, 60),
    "blue": (60, 90, 240),
    "yellow": (240, 220, 40),
    "purple": (190, 60, 210),
    "white": (240, 240, 240),
}
#: RGB of all colours; crowded images need more.
ALL_COLOURS = {**COLOURS, "pink": (255, 150, 180), "cyan": (40, 210, 220)}


@dataclass(frozen=True)
class SceneStyle:
    """What scenes look like and how they are spoken of.

    Args:
        name (str): on the command line.
        size (int): side of an image in pixels.
        rows, columns (tuple[str, ...]): names of the cells' rows and columns; an
            object lies in each cell at most.
        colours (tuple[str, ...]): one per object at most.
        count_shares (Mapping): number of objects to probability.
        kind_shares (Mapping): kind of object to probability.
        small_share (float): of digits and words that are in small print.
        scale (int): how many times larger everything is drawn.
        shape_sides (tuple[int, int]): smallest side of a shape before scaling, and
            one more than the largest.
        tangled (bool): an occupied cell holds two things that share one box, one drawn
            over the other; ``count_shares`` counts such pairs.
        box_step (int): boxes are written in percent, in steps of this much.
        phrase_step (int): the same in the phrases that the vision tower learns.
        turns (int): questions per training image.
        groups (Mapping): group to its tasks in the test; empty where tests are
            not grouped.
    """

    name: str
    size: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    colours: tuple[str, ...]
    count_shares: Mapping[int, float]
    kind_shares: Mapping[str, float]
    small_share: float = 0.0
    scale: int = 1
    shape_sides: tuple[int, int] = (12, 19)
    tangled: bool = False
    box_step: int = 4
    phrase_step: int = 4
    turns: int = 6
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple:
        return _by_name, (self.name,)

    @property
    def positions(self) -> tuple[str, ...]:
        """Cells in reading order, as in ``top left``."""
        return tuple(f"{row} {column}" for row in self.rows for column in self.columns)

    def group_of(self, task: str) -> str | None:
        """Return the group of a test's task; None where there are no groups."""
        found = (group for group, tasks in self.groups.items() if task in tasks)
        return next(found, None)


PLAIN = SceneStyle(
    name="plain",
    size=48,
    rows=("top", "bottom"),
    columns=("left", "right"),
    colours=tuple(COLOURS),
    count_shares={1: 0.2, 2: 0.35, 3: 0.45},
    kind_shares={"shape": 0.44, "digit": 0.31, "word": 0.25},
)
#: Half of the writing small, drawn at twice the size, for towers that see the image
#: at half of its own. The coarse tasks ask for what is seen at a glance, the fine ones
#: for small print, exact boxes and counts. Phrases neither read the small print nor
#: give exact places, so that a tower that learns from them has, as CLIP has, no reason
#: to keep either.
FINE = SceneStyle(
    name="fine",
    size=96,
    rows=("top", "bottom"),
    columns=("left", "right"),
    colours=tuple(COLOURS),
    count_shares={1: 0.2, 2: 0.35, 3: 0.45},
    kind_shares={"shape": 0.3, "digit": 0.36, "word": 0.34},
    small_share=0.5,
    scale=2,
    box_step=2,
    phrase_step=12,
    turns=6,
    groups=dict(
        coarse=("existence", "colour", "shape", "relation", "digit", "word"),
        fine=("small-digit", "small-word", "pointing", "count"),
    ),
)
#: Two things share every box, ring and disc, cross and square, word and stroke: boxes
#: and coordinates cannot tell them apart, masks can. For a grid of 8 x 8 patches.
TANGLED = SceneStyle(
    name="tangled",
    size=96,
    rows=("top", "bottom"),
    columns=("left", "right"),
    colours=tuple(COLOURS),
    count_shares={1: 0.4, 2: 0.6},
    kind_shares={"shape": 0.7, "word": 0.3},
    scale=2,
    shape_sides=(18, 23),
    tangled=True,
    box_step=4,
    phrase_step=12,
)
#: One shape per image: learnt in seconds from random weights, by looking alone.
SINGLE = SceneStyle(
    name="single",
    size=48,
    rows=("top", "bottom"),
    columns=("left", "right"),
    colours=("red", "green", "blue", "white"),
    count_shares={1: 1.0},
    kind_shares={"shape": 1.0},
    shape_sides=(17, 22),
    turns=4,
)
STYLES = {style.name: style for style in (PLAIN, FINE, TANGLED, SINGLE)}
#: Quarters of a plain image in reading order.
POSITIONS = PLAIN.positions


def _by_name(name: str) -> SceneStyle:
    return STYLES[name]
