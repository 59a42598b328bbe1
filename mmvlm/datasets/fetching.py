"""Items of a dataset, one alone or those of a batch together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset


class FetchingDataset(Dataset, ABC):
    """Base of datasets that make several items at less cost than one by one.

    Subclasses define :meth:`_fetch_many`. One that overrides ``fetch`` or
    ``__getitem__`` has it called for every item of a batch.
    """

    def __getitem__(self, position: int) -> Any:
        """Return the item at ``position``."""
        return self.fetch(position)

    def __getitems__(self, positions: Sequence[int]) -> list:
        """Return the items of a batch (called by the DataLoader)."""
        if type(self).__getitem__ is not FetchingDataset.__getitem__:
            return [self[position] for position in positions]
        return self.fetch_many([(position, 0) for position in positions])

    def fetch(self, position: int, repeat: int = 0) -> Any:
        """Return an item; ``repeat`` tells visits in one epoch apart.

        Returns:
            dict | list[dict] | BadRecord: what the pipeline makes of the sample, a
            list where it is several conversations, or the record that stands for it
            when the policy leaves it out.

        Raises:
            IndexError: outside the dataset.
            DataError: under the policy ``raise``, naming file and sample.
        """
        return self._fetch_many([(position, repeat)])[0]

    def fetch_many(self, visits: Sequence[tuple[int, int]]) -> list:
        """Return the items of several (position, repeat), see :meth:`fetch`."""
        if type(self).fetch is not FetchingDataset.fetch:
            return [self.fetch(*visit) for visit in visits]
        return self._fetch_many(visits)

    @abstractmethod
    def _fetch_many(self, visits: Sequence[tuple[int, int]]) -> list:
        """Return the items of several (position, repeat) in their order."""
