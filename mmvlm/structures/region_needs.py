"""What region encoders want to know of a region."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class RegionNeeds:
    """What region encoders read of a region, besides its box.

    Args:
        points (int): places drawn from its pixels; 0 for none.
        draws (int): further random numbers (starts of a sampling).
        mask (int): cells per side of its mask on the view; 0 for none.
    """

    points: int = 0
    draws: int = 0
    mask: int = 0

    @classmethod
    def union(cls, needs: Iterable[RegionNeeds]) -> RegionNeeds | None:
        """Return what serves several readers; None for no reader.

        Raises:
            ValueError: when they want masks of different sides.
        """
        found = list(needs)
        sides = sorted({one.mask for one in found if one.mask})
        if len(sides) > 1:
            raise ValueError(
                f"region encoders want masks of {sides} cells per side; one batch "
                "has one side. Give them one 'mask_side'."
            )
        if not found:
            return None
        points, draws = (max(getattr(n, k) for n in found) for k in ("points", "draws"))
        return cls(points, draws, sides[0] if sides else 0)
