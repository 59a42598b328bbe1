"""Several data sets as one, weighted by samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmvlm.registry import DATASETS


@DATASETS.register_module()
class MixtureDataset(Dataset):
    """Data sets side by side, each seen ``weight`` times per epoch.

    An epoch holds ``round(weight * len(dataset))`` samples of each data set (at
    least one), so its length never changes. Which samples they are depends on
    (seed, epoch) only: every data set is walked through pass after pass, each pass
    in an order of its own, and epoch e takes the e-th stretch. With weight 0.3 no
    sample comes twice before all came once; with weight 1 every epoch is the whole
    data set, in file order; with weight 2.5 each comes two or three times, and its
    visits within an epoch draw different random numbers.

    Args:
        datasets (Sequence[dict | Dataset]): configs or built data sets; mixtures
            may nest. Names must differ.
        weights (Sequence[float] | None): one per data set, above 0; None means 1
            each.
        seed (int): of the choice of samples.
        name (str): for messages.

    Raises:
        ValueError: for no data set, weights that do not fit, equal names.

    """

    def __init__(
        self,
        datasets: Sequence[Any],
        weights: Sequence[float] | None = None,
        *,
        seed: int = 0,
        name: str = "mixture",
    ) -> None:
        if not datasets:
            raise ValueError(f"mixture '{name}': datasets is empty.")
        weights = [1.0] * len(datasets) if weights is None else list(weights)
        bad = [w for w in weights if not (np.isfinite(w) and w > 0)]
        if len(weights) != len(datasets) or bad:
            raise ValueError(
                f"mixture '{name}': weights={weights} for {len(datasets)} datasets; "
                "expected one number above 0 per dataset (to leave one out, take it "
                "off the list)."
            )
        self.datasets = [
            DATASETS.build(d) if isinstance(d, dict) else d for d in datasets
        ]
        names = [d.name for d in self.datasets]
        if len(set(names)) != len(names):
            raise ValueError(
                f"mixture '{name}': names {names} are not distinct; give each dataset "
                "a name=..., or use weights to repeat one."
            )
        self.name, self.seed, self.weights = name, int(seed), weights
        self.counts = [
            max(1, round(w * len(d)))
            for w, d in zip(weights, self.datasets, strict=True)
        ]
        self._ends = np.cumsum(self.counts)
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._drawn: tuple[int, list[np.ndarray], list[np.ndarray]] | None = None
        print_log(self.describe(), logger="current", level=logging.INFO)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def epoch(self) -> int:
        """The epoch that items are made for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch here and in all members, in running workers too."""
        self._epoch.fill_(int(epoch))
        for dataset in self.datasets:
            dataset.set_epoch(epoch)

    def bind(self, context: Any) -> None:
        """Bind all members."""
        for dataset in self.datasets:
            dataset.bind(context)

    @property
    def metainfo(self) -> dict:
        """Names and sizes of the members."""
        return dict(name=self.name, datasets=[d.metainfo for d in self.datasets])

    def rows_at(self, epoch: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return what an epoch takes of each member.

        Returns:
            tuple[list[np.ndarray], list[np.ndarray]]: per member the positions,
            ascending, and which visit of its position each one is (0, 1, ...).

        """
        if self._drawn is not None and self._drawn[0] == epoch:
            return self._drawn[1], self._drawn[2]
        rows, visits = [], []
        for member, (dataset, count) in enumerate(
            zip(self.datasets, self.counts, strict=True)
        ):
            taken = np.sort(self._stretch(member, len(dataset), count, epoch))
            first = np.searchsorted(taken, taken, side="left")
            rows.append(taken)
            visits.append(np.arange(len(taken)) - first)
        self._drawn = (epoch, rows, visits)
        return rows, visits

    def _stretch(self, member: int, size: int, count: int, epoch: int) -> np.ndarray:
        start, parts = epoch * count, []
        while count > 0:
            number, offset = divmod(start, size)
            order = np.random.default_rng((self.seed, member, number)).permutation(size)
            parts.append(order[offset : offset + count])
            start, count = start + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts)

    @property
    def lengths(self) -> np.ndarray:
        """Signed lengths of the current epoch's samples."""
        return self.lengths_at(self.epoch)

    def lengths_at(self, epoch: int) -> np.ndarray:
        """Return the signed lengths of an epoch's samples."""
        rows, _ = self.rows_at(epoch)
        return np.concatenate(
            [d.lengths_at(epoch)[r] for d, r in zip(self.datasets, rows, strict=True)]
        )

    def modalities_at(self, epoch: int) -> np.ndarray:
        """Return what each of an epoch's samples holds: ``image``, ``audio``, ..."""
        rows, _ = self.rows_at(epoch)
        members = zip(self.datasets, rows, strict=True)
        return np.concatenate([d.modalities_at(epoch)[r] for d, r in members])

    def locate(self, position: int) -> tuple[int, int, int]:
        """Return member, position in it and visit of a position of this epoch."""
        if not 0 <= position < len(self):
            raise IndexError(
                f"mixture '{self.name}': position {position} outside "
                f"0..{len(self) - 1}."
            )
        member = int(np.searchsorted(self._ends, position, side="right"))
        offset = position - int(self._ends[member]) + self.counts[member]
        rows, visits = self.rows_at(self.epoch)
        return member, int(rows[member][offset]), int(visits[member][offset])

    def __getitem__(self, position: int) -> Any:
        """Return the item at ``position`` of the current epoch."""
        return self.fetch(position)

    def fetch(self, position: int, repeat: int = 0) -> Any:
        """Return an item; ``repeat`` tells visits of an outer mixture apart."""
        member, row, visit = self.locate(position)
        # Cantor's pairing: (0, 0) -> 0, and no two pairs meet.
        both = repeat + visit
        return self.datasets[member].fetch(row, both * (both + 1) // 2 + visit)

    def describe(self) -> str:
        """Return the realised mixture as a small table."""
        width = max(len(d.name) for d in self.datasets)
        lines = [f"Mixture '{self.name}': {len(self)} samples per epoch"]
        for dataset, weight, count in zip(
            self.datasets, self.weights, self.counts, strict=True
        ):
            lines.append(
                f"  {dataset.name:<{width}}  {len(dataset):>9} samples x {weight:g} "
                f"= {count:>9} ({100 * count / len(self):5.1f} %)"
            )
        return "\n".join(lines)
