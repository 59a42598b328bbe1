"""Random draws of one sample."""

from __future__ import annotations

from typing import Any

import numpy as np


class SampleGenerator:
    """A :class:`numpy.random.Generator` that is made when it is first drawn from.

    Most samples draw nothing, and seeding costs as much as writing a prompt.

    Args:
        *seed (int): what the draws depend on.
    """

    def __init__(self, *seed: int) -> None:
        self._seed = seed

    def spawn(self, count: int) -> list[SampleGenerator]:
        """Return generators of parts of the sample; what others draw is no matter."""
        return [SampleGenerator(*self._seed, number) for number in range(count)]

    def __getattr__(self, name: str) -> Any:
        """Return a generator's attribute; the generator is made by the first."""
        if name.startswith("_"):
            raise AttributeError(name)
        if "_generator" not in self.__dict__:
            self._generator = np.random.default_rng(self._seed)
        return getattr(self._generator, name)
