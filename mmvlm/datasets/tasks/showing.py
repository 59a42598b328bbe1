"""How a question shows the thing it asks about: box, mask, or a point in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.structures import Boxes, Instance, Region

from .base import region
from .draws import Draws

KINDS = ("box", "mask", "point")
#: Where in its box a point lies.
PLACES = ("centre", "gaussian", "uniform")
_STD = 0.15
_MAX_DRAWS = 50


def check_shown(task: str, kind: str | Sequence[str], where: str) -> None:
    """Check how a task shows regions.

    Raises:
        ValueError: naming the task, for an unknown kind or place.
    """
    kinds = [kind] if isinstance(kind, str) else list(kind)
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"{task}: kind={kind!r}, expected some of {list(KINDS)}.")
    if where not in PLACES:
        raise ValueError(f"{task}: where='{where}', expected one of {list(PLACES)}.")


def shown_region(
    item: Instance,
    size: tuple[int, int],
    draws: Draws,
    kind: str | Sequence[str] = "box",
    where: str = "centre",
) -> Region:
    """Return the region of one instance as a question shows it.

    Args:
        item (Instance): with a box.
        size (tuple[int, int]): height and width of the image.
        draws (Draws): choices.
        kind (str | Sequence[str]): ``box``, ``mask`` or ``point``; one of several is
            drawn (Ferret: box or point, half of the time each).
        where (str): of a point: the ``centre`` of the box; ``uniform`` in the box;
            ``gaussian`` around the centre, with a standard deviation of 0.15 of the
            sides, drawn again outside the box (Ferret's).
    """
    kind = kind if isinstance(kind, str) else draws.choice(list(kind))
    if kind != "point":
        return region([item], size, kind=kind)
    x1, y1, x2, y2 = item.box
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    if where == "uniform":
        x = x1 + draws.chance() * (x2 - x1)
        y = y1 + draws.chance() * (y2 - y1)
    if where == "gaussian":
        x = _near(x, x1, x2, draws)
        y = _near(y, y1, y2, draws)
    return Region(0, Boxes(np.array([[x, y, x, y]]), size), "point")


def _near(centre: float, low: float, high: float, draws: Draws) -> float:
    """Return a place around a centre; the centre itself after too many draws."""
    for _ in range(_MAX_DRAWS):
        place = draws.normal(centre, _STD * (high - low))
        if low <= place <= high:
            return place
    return centre
