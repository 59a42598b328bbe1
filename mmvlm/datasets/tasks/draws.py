"""Random choices by name, so that a recorded run can be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """The choices that tasks make, drawn from one generator.

    A task that draws through this object can be replayed: whoever has the list of
    what was drawn hands over a subclass that repeats it.

    Args:
        rng (np.random.Generator): the only source of randomness.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def choice(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """Return one of several, equally likely without ``weights``."""
        if weights is None:
            return options[int(self.rng.integers(len(options)))]
        shares = np.asarray(weights, dtype=np.float64)
        return options[int(self.rng.choice(len(options), p=shares / shares.sum()))]

    def integer(self, stop: int) -> int:
        """Return one of 0 .. ``stop`` - 1."""
        return int(self.rng.integers(stop))

    def chance(self) -> float:
        """Return a number in [0, 1)."""
        return float(self.rng.random())

    def normal(self, mean: float, std: float) -> float:
        """Return a normally distributed number."""
        return float(self.rng.normal(mean, std))

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Return ``count`` different ones of several, in random order."""
        picked = self.rng.permutation(len(options))[:count]
        return [options[int(number)] for number in picked]

    def shuffle(self, options: Sequence[T]) -> list[T]:
        """Return all of them in random order."""
        return self.sample(options, len(options))


def draws_of(rng: np.random.Generator | Draws) -> Draws:
    """Return the choices of a generator; what makes choices already is kept."""
    return rng if isinstance(rng, Draws) else Draws(rng)
