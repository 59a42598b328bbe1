"""Rows that come one after the other: read in blocks, dealt in batches, resumable."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import IterableDataset, get_worker_info

from mmvlm.datasets.bad_samples import BadRecord, BadSamplePolicy
from mmvlm.datasets.tasks.base import DataTask
from mmvlm.datasets.transforms.compose import Compose
from mmvlm.registry import DATASETS

from .columns import ColumnMapper

#: Rows that are read at once from a stream of Hugging Face's package.
_HUB_ROWS = 32


@DATASETS.register_module()
class StreamingDataset(IterableDataset):
    """Samples of a source that has neither length nor random access.

    The stream is cut into blocks of at least ``block_size`` rows, each block is put in
    a random order of (seed, epoch, block), and the result is dealt in batches: batch b
    goes to rank ``b % world_size`` and there to worker ``(b // world_size) %
    num_workers``. So the sequence of batches is the same for any number of workers, a
    :class:`torch.utils.data.DataLoader` (with this ``batch_size``, without a sampler)
    gives them in that order, and one number says where a run stands. The runner
    trains on it by steps and resumes exactly.

    What it does not do, and readers with random access do: lengths are not known, so
    batches are not planned by length or packed by best fit; images are shuffled
    within a block only; ``indices``, ``filter_cfg`` and the blind run do not exist;
    every worker reads all rows of the source and keeps a block of them, undecoded; a
    resumed run reads again what it passes over (``skip`` of the source is used where
    there is one). Rows of the last round that do not fill a batch on every rank are
    left out; :attr:`num_left_out` counts them at the end of an epoch.

    Args:
        source (dict | Iterable | Callable): arguments of ``datasets.load_dataset``,
            which is called with ``streaming=True``; or rows (mappings) that can be
            gone through again; or a function that returns them.
        columns (Mapping): see :class:`ColumnMapper`, as ``task``.
        batch_size (int): samples of a batch on a rank.
        task (dict | DataTask | None): of captions and questions.
        block_size (int): rows of a block; rounded up to whole rounds of batches.
        shuffle (bool): False keeps the order of the source.
        data_root, image_prefix (str): folders of images that are paths.
        pipeline (Sequence[dict | Callable]): transforms.
        name (str): for messages.
        seed (int): of order and items.
        bad_samples (dict | None): see :class:`BadSamplePolicy`; without quarantine.
        rank, world_size (int | None): None takes those of the process group.

    Raises:
        ValueError: for numbers below 1, or columns that do not fit.
    """

    def __init__(
        self,
        source: dict | Iterable | Callable,
        *,
        columns: Mapping[str, Any],
        batch_size: int,
        task: dict | DataTask | None = None,
        block_size: int = 1024,
        shuffle: bool = True,
        data_root: str = "",
        image_prefix: str = "",
        pipeline: Sequence[Any] = (),
        name: str = "stream",
        seed: int = 0,
        bad_samples: dict | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if batch_size < 1 or block_size < 1:
            raise ValueError(
                f"batch_size={batch_size}, block_size={block_size}: expected >= 1."
            )
        self.rank = get_rank() if rank is None else rank
        self.world_size = get_world_size() if world_size is None else world_size
        self.batch_size = batch_size
        self.round_size = batch_size * self.world_size
        self.block_size = -(-block_size // self.round_size) * self.round_size
        self.mapper = ColumnMapper(columns, task)
        self.source = source
        self.shuffle = shuffle
        self.data_root = data_root or ""
        self.image_root = "/".join(filter(None, (self.data_root, image_prefix)))
        self.pipeline = Compose(pipeline)
        self.name, self.seed = name, int(seed)
        self.bad_samples = BadSamplePolicy(**(bad_samples or {}))
        # Shared memory, so that running workers see them: epoch, first round, rest.
        self._state = torch.zeros(3, dtype=torch.int64).share_memory_()

    # Where a run stands -----------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch that items are made for."""
        return int(self._state[0])

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch at its first row."""
        self._state[0], self._state[1] = int(epoch), 0

    @property
    def num_left_out(self) -> int:
        """Rows at the end of the last whole epoch that filled no round of batches."""
        return int(self._state[2])

    def state_dict(self, num_batches: int) -> dict:
        """Return where a run stands.

        Args:
            num_batches (int): batches that each rank has had since the epoch's begin,
                or since :meth:`load_state_dict`.
        """
        return self.place_of(self.epoch, int(self._state[1]) + num_batches)

    def place_of(self, epoch: int, num_batches: int) -> dict:
        """Return where a run stands after so many batches of an epoch per rank."""
        rows = num_batches * self.round_size
        return dict(epoch=epoch, rows=rows, seed=self.seed)

    def fingerprint(self, epoch: int) -> dict:
        """Return what the order of the rows depends on, in plain values."""
        return dict(
            seed=self.seed,
            round_size=self.round_size,
            block_size=self.block_size,
            shuffle=self.shuffle,
        )

    def load_state_dict(self, state: dict) -> None:
        """Go on where a run stood, with any number of workers.

        Raises:
            ValueError: for another seed, or a place inside of a round (another batch
                size or number of ranks).
        """
        if state["seed"] != self.seed or state["rows"] % self.round_size:
            raise ValueError(
                f"stream '{self.name}': {state} does not fit seed={self.seed} and "
                f"rounds of {self.round_size} rows (batch_size x ranks)."
            )
        self._state[0] = state["epoch"]
        self._state[1] = state["rows"] // self.round_size

    # Rows ---------------------------------------------------------------------

    def bind(self, context: Any) -> None:
        """Hand what the pipeline must know of the model to the transforms."""
        self.pipeline.bind(context)

    @property
    def metainfo(self) -> dict:
        """Facts that metrics and visualizers may want."""
        return dict(name=self.name, image_root=self.image_root)

    def _rows(self, start: int) -> Iterator[Mapping]:
        """Return the rows of the source from number ``start``."""
        source = self.source
        if isinstance(source, dict):
            source = _hub_stream(source)
        elif callable(source):
            source = source()
        if start and hasattr(source, "skip"):
            return iter(source.skip(start))
        return itertools.islice(iter(source), start, None)

    def _numbers(self) -> Iterator[tuple[int, Any]]:
        """Yield row number and row of the dealt stream, from where the run stands."""
        first = int(self._state[1]) * self.round_size
        block, offset = divmod(first, self.block_size)
        rows = self._rows(block * self.block_size)
        while True:
            buffered = list(itertools.islice(rows, self.block_size))
            order = np.arange(len(buffered))
            if self.shuffle:
                key = (self.seed, self.epoch, block)
                order = np.random.default_rng(key).permutation(len(buffered))
            whole = len(buffered) // self.round_size * self.round_size
            for place in order[offset:whole].tolist():
                yield block * self.block_size + place, buffered[place]
            if len(buffered) < self.block_size:
                self._state[2] = len(buffered) - whole
                return
            block, offset = block + 1, 0

    def __iter__(self) -> Iterator[Any]:
        """Yield the items of this rank and worker."""
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        epoch = self.epoch
        for count, (number, row) in enumerate(self._numbers()):
            batch = count // self.batch_size
            turn = batch // self.world_size % workers
            if batch % self.world_size == self.rank and turn == worker:
                yield self._item(number, row, epoch)

    def _item(self, number: int, row: Any, epoch: int) -> dict | BadRecord:
        sample = str(number)
        try:
            cells = self._cells(row)
            if cells.get("id") is not None:
                sample = str(cells["id"])
            images = _images(cells.pop("image", None))
            rng = np.random.default_rng((self.seed, epoch, number, 0))
            talk = self.mapper.conversation(cells, images, sample, rng)
            talk.check()
            item = dict(
                conversation=talk,
                dataset=self.name,
                index=number,
                data_root=self.data_root,
                image_root=self.image_root,
                rng=rng,
            )
            return self.pipeline(item)
        except Exception as error:
            return self.bad_samples.handle(
                error,
                where=f"row {number} of stream '{self.name}' (id '{sample}')",
                dataset=self.name,
                index=number,
                sample_id=sample,
                path="",
            )

    def _cells(self, row: Any) -> dict:
        """Return the values that the columns name."""
        if not isinstance(row, Mapping):
            raise ValueError(f"expected a row (mapping), got {row!r:.80}.")
        cells: dict[str, Any] = {}
        for name, column in self.mapper.columns.items():
            needed = [column] if isinstance(column, str) else list(column)
            missing = [one for one in needed if one not in row]
            if missing:
                raise ValueError(f"no columns {missing}; it has {sorted(row)[:12]}.")
            values = {one: row[one] for one in needed}
            cells[name] = values if name == "meta" else values[needed[0]]
        return cells


def _images(value: Any) -> list:
    """Return images as paths, bytes, or what is decoded already."""
    items = value if isinstance(value, list | tuple) else [value]
    found = []
    for item in items:
        if isinstance(item, Mapping):
            item = item.get("bytes") or item.get("path")
            if item is None:
                raise ValueError("an image without bytes and path.")
        if item is not None:
            found.append(item)
    return found


class _HubRows:
    """All rows of a stream of Hugging Face's package, in every worker.

    Such a stream deals its files to the workers of a loader, and gives those for whom
    there is no file nothing; read in batches it does not. We deal batches ourselves.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def skip(self, count: int) -> _HubRows:
        """Return the rows behind the first ``count``."""
        return _HubRows(self.stream.skip(count))

    def __iter__(self) -> Iterator[dict]:
        for batch in self.stream.iter(batch_size=_HUB_ROWS):
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(batch, values, strict=True))


def _hub_stream(options: dict) -> _HubRows:
    """Return a stream of Hugging Face's package, its images undecoded."""
    import datasets

    stream = datasets.load_dataset(**options, streaming=True)
    if isinstance(stream, dict):
        raise ValueError(f"source={options}: say split=, one of {sorted(stream)}.")
    for name, feature in (stream.features or {}).items():
        if isinstance(feature, datasets.Image):
            stream = stream.cast_column(name, datasets.Image(decode=False))
    return _HubRows(stream)
