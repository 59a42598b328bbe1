"""Several datasets as one, weighted by epochs, samples or tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mmvlm.registry import DATASETS

from .fetching import FetchingDataset

_MEASURES = ("epochs", "samples", "tokens")


@DATASETS.register_module()
class MixtureDataset(FetchingDataset):
    """Datasets side by side, each with a part of every epoch.

    What the weights mean is said by ``by``:

    - ``epochs``: each dataset is seen ``weight`` times per epoch, that is
      ``round(weight * len(dataset))`` of its samples;
    - ``samples``: weights are shares of the epoch's ``size`` samples;
    - ``tokens``: weights are shares of the epoch's ``size`` tokens (image tokens
      included), turned into samples by the mean length of each dataset.

    ``limits`` then bounds the samples of each dataset per epoch. At least one sample
    of each is taken, and the length of an epoch never changes.

    Which samples they are depends on (seed, epoch) only: every dataset is walked
    through pass after pass, each pass in an order of its own, and epoch e takes the
    e-th stretch. With 0.3 epochs no sample comes twice before all came once; with 1
    every epoch is the whole dataset, in file order; with 2.5 each comes two or three
    times, and its visits within an epoch draw different random numbers. So nothing
    has to be remembered to resume a run but the epoch; :meth:`fingerprint` lets the
    train loop see that the mixture is still the same.

    The realised mixture is logged: in samples when it is known, in tokens when they
    are first asked for.

    Args:
        datasets (Sequence[dict | Dataset]): configs or built datasets; mixtures
            may nest. Names must differ. What a member leaves out for good is its
            own matter (``indices``, ``filter_cfg``).
        weights (Sequence[float] | None): one per dataset, above 0; None means 1
            each.
        by (str): ``epochs``, ``samples`` or ``tokens``. Tokens are known once the
            datasets are bound to a model.
        size (int | None): samples or tokens of an epoch; None means as many as all
            members hold together. Not with ``by='epochs'``.
        limits (Sequence[int | None] | None): one per dataset, most samples of it
            per epoch; the others come in later epochs. None: no limit.
        seed (int): of the choice of samples.
        name (str): for messages.

    Raises:
        ValueError: for no dataset, options that do not fit, equal names.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        weights: Sequence[float] | None = None,
        *,
        by: str = "epochs",
        size: int | None = None,
        limits: Sequence[int | None] | None = None,
        seed: int = 0,
        name: str = "mixture",
    ) -> None:
        if not datasets:
            raise ValueError(f"mixture '{name}': datasets is empty.")
        weights = [1.0] * len(datasets) if weights is None else list(weights)
        limits = [None] * len(datasets) if limits is None else list(limits)
        _check_options(name, len(datasets), weights, by, size, limits)
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
        self.by, self.size, self.limits = by, size, limits
        self._counts: list[int] | None = None
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._drawn: tuple[int, list[np.ndarray], list[np.ndarray]] | None = None
        self._logged_tokens = False
        if by != "tokens":
            print_log(self.describe(), logger="current", level=logging.INFO)

    # How much of each ---------------------------------------------------------

    @property
    def counts(self) -> list[int]:
        """Samples of each dataset per epoch.

        Raises:
            TypeError: when tokens are needed and a member does not know them.
        """
        if self._counts is None:
            ideal = self._ideal_counts()
            capped = zip(ideal, self.limits, strict=True)
            self._counts = [
                max(1, round(n if most is None else min(n, most))) for n, most in capped
            ]
        return self._counts

    @property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.counts)

    def _ideal_counts(self) -> list[float]:
        """Return the samples that the weights ask for."""
        lengths = [len(d) for d in self.datasets]
        if self.by == "epochs":
            return [w * n for w, n in zip(self.weights, lengths, strict=True)]
        means = [1.0] * len(lengths)
        if self.by == "tokens":
            means = [
                max(1.0, float(self._member_tokens(d, 0).mean())) for d in self.datasets
            ]
        total = self.size
        if total is None:
            total = sum(n * mean for n, mean in zip(lengths, means, strict=True))
        whole = sum(self.weights)
        return [
            total * weight / whole / mean
            for weight, mean in zip(self.weights, means, strict=True)
        ]

    def _member_tokens(self, dataset: Any, epoch: int, repeat: int = 0) -> np.ndarray:
        """Return the token lengths of a whole member."""
        if not hasattr(dataset, "token_lengths_at"):
            raise TypeError(
                f"mixture '{self.name}': member '{dataset.name}' "
                f"({type(dataset).__name__}) offers no token_lengths_at(epoch)."
            )
        return np.asarray(dataset.token_lengths_at(epoch, repeat))

    def __len__(self) -> int:
        return sum(self.counts)

    # Epochs and binding ---------------------------------------------------------

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
        """Bind all members; token counts of an earlier binding are forgotten."""
        for dataset in self.datasets:
            dataset.bind(context)
        if self.by == "tokens":
            self._counts = self._drawn = None

    @property
    def metainfo(self) -> dict:
        """Names and sizes of the members."""
        return dict(name=self.name, datasets=[d.metainfo for d in self.datasets])

    def fingerprint(self, epoch: int) -> dict[str, Any]:
        """Return, in plain values, what the choice of samples depends on."""
        facts = dict(
            seed=self.seed,
            names=[d.name for d in self.datasets],
            sizes=[len(d) for d in self.datasets],
            counts=list(self.counts),
        )
        for dataset in self.datasets:
            if isinstance(dataset, MixtureDataset):
                facts[dataset.name] = dataset.fingerprint(epoch)
        return facts

    # Which samples ----------------------------------------------------------------

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

    # What samplers plan by ----------------------------------------------------------

    @property
    def lengths(self) -> np.ndarray:
        """Signed lengths of the current epoch's samples."""
        return self.lengths_at(self.epoch)

    def lengths_at(self, epoch: int) -> np.ndarray:
        """Return the signed lengths of an epoch's samples."""
        return self._joined([d.lengths_at(epoch) for d in self.datasets], epoch)

    def modalities_at(self, epoch: int) -> np.ndarray:
        """Return what each of an epoch's samples holds: ``image``, ``audio``, ..."""
        return self._joined([d.modalities_at(epoch) for d in self.datasets], epoch)

    def num_images_at(self, epoch: int) -> np.ndarray:
        """Return the images of each of an epoch's samples."""
        return self._joined([d.num_images_at(epoch) for d in self.datasets], epoch)

    def token_lengths_at(self, epoch: int, repeat: int = 0) -> np.ndarray:
        """Return the tokens of each of an epoch's samples, image tokens included.

        Args:
            epoch (int): whose samples.
            repeat (int): the visit of an outer mixture, see :meth:`fetch`.

        Returns:
            np.ndarray: (samples,) int32.
        """
        parts = self._tokens_at(epoch, repeat)
        if not self._logged_tokens:
            self._logged_tokens = True
            print_log(self.describe(epoch), logger="current", level=logging.INFO)
        return np.concatenate(parts)

    def _tokens_at(self, epoch: int, repeat: int = 0) -> list[np.ndarray]:
        """Return the tokens of an epoch's samples by member."""
        parts = []
        for dataset, rows, visits in zip(
            self.datasets, *self.rows_at(epoch), strict=True
        ):
            tokens = np.empty(len(rows), dtype=np.int32)
            for visit in np.unique(visits).tolist():
                here = visits == visit
                lengths = self._member_tokens(dataset, epoch, _pair(repeat, visit))
                tokens[here] = lengths[rows[here]]
            parts.append(tokens)
        return parts

    def _joined(self, values: list[np.ndarray], epoch: int) -> np.ndarray:
        rows, _ = self.rows_at(epoch)
        return np.concatenate([v[r] for v, r in zip(values, rows, strict=True)])

    # Items ---------------------------------------------------------------------------

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

    def _fetch_many(self, visits: Sequence[tuple[int, int]]) -> list:
        items: list = [None] * len(visits)
        own: dict[int, list[tuple[int, int, int]]] = {}
        for place, (position, repeat) in enumerate(visits):
            member, row, visit = self.locate(position)
            own.setdefault(member, []).append((place, row, _pair(repeat, visit)))
        for member, wanted in own.items():
            dataset, rows = self.datasets[member], [one[1:] for one in wanted]
            if isinstance(dataset, FetchingDataset):
                made = dataset.fetch_many(rows)
            else:
                made = [dataset.fetch(*row) for row in rows]
            for (place, *_), item in zip(wanted, made, strict=True):
                items[place] = item
        return items

    # The table -----------------------------------------------------------------------

    def describe(self, epoch: int | None = None) -> str:
        """Return the realised mixture as a small table.

        Args:
            epoch (int | None): whose tokens are counted as well; None leaves them out.
        """
        width = max(len(d.name) for d in self.datasets)
        tokens: list[int | None] = [None] * len(self.datasets)
        head = f"Mixture '{self.name}': {len(self)} samples per epoch"
        if epoch is not None:
            tokens = [int(t.sum(dtype=np.int64)) for t in self._tokens_at(epoch)]
            head += f", {sum(tokens)} tokens in epoch {epoch}"
        lines = [head]
        whole = max(1, sum(t or 0 for t in tokens))
        for dataset, count, own in zip(self.datasets, self.counts, tokens, strict=True):
            line = (
                f"  {dataset.name:<{width}}  {len(dataset):>9} samples x "
                f"{count / len(dataset):.4g} = {count:>9} "
                f"({100 * count / len(self):5.1f} %)"
            )
            if own is not None:
                line += f" {own:>12} tokens ({100 * own / whole:5.1f} %)"
            lines.append(line)
        return "\n".join(lines)


def _pair(repeat: int, visit: int) -> int:
    """Number the visits of visits: Cantor's pairing, (0, 0) -> 0, none meet."""
    both = repeat + visit
    return both * (both + 1) // 2 + visit


def _check_options(
    name: str, number: int, weights: list, by: str, size: Any, limits: list
) -> None:
    bad = [w for w in weights if not (np.isfinite(w) and w > 0)]
    if len(weights) != number or bad:
        raise ValueError(
            f"mixture '{name}': weights={weights} for {number} datasets; "
            "expected one number above 0 per dataset (to leave one out, take it "
            "off the list)."
        )
    if by not in _MEASURES:
        raise ValueError(
            f"mixture '{name}': by={by!r}, expected one of {list(_MEASURES)}."
        )
    if size is not None and (by == "epochs" or size < number):
        raise ValueError(
            f"mixture '{name}': size={size} with by='{by}'; expected at least "
            f"{number} samples or tokens, with by='samples' or by='tokens'."
        )
    odd = [n for n in limits if n is not None and not (isinstance(n, int) and n > 0)]
    if len(limits) != number or odd:
        raise ValueError(
            f"mixture '{name}': limits={limits} for {number} datasets; expected one "
            "int above 0, or None, per dataset."
        )
