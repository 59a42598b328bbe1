"""Micro-batches of a dataset that comes row by row."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from .stream import MicroBatchStream


class RowStream(MicroBatchStream):
    """Walk a dataset that comes row by row and deals its batches itself.

    Nobody knows how long an epoch is before it is over, so a run is measured in
    steps. Going to a place reads again what lies before it in the source, undecoded.

    Args:
        dataloader (DataLoader): of a dataset with ``load_state_dict``,
            ``place_of`` and ``fingerprint``
            (:class:`mmvlm.datasets.readers.streaming.StreamingDataset`).

    Raises:
        TypeError: when the dataset cannot be resumed.
    """

    def __init__(self, dataloader: DataLoader) -> None:
        dataset = dataloader.dataset
        if not all(hasattr(dataset, name) for name in ("load_state_dict", "place_of")):
            raise TypeError(
                f"train_dataloader.dataset: {type(dataset).__name__} cannot be resumed "
                "in mid-epoch. Use type='StreamingDataset' around its rows."
            )
        self.dataloader = dataloader
        self.epoch = self.position = 0
        self._iterator: Any = None

    @property
    def length(self) -> None:
        """Unknown."""
        return None

    @property
    def passed(self) -> float:
        """Epochs that are over."""
        return float(self.epoch)

    def length_at(self, epoch: int) -> int:
        """Refuse to tell.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "a stream does not know how long an epoch is: give train_cfg.max_iters "
            "instead of max_epochs."
        )

    def epochs_of(self, count: int) -> int:
        """Epochs that a run is sure to touch."""
        return 1

    def fingerprint(self) -> dict[str, Any]:
        """Return, in plain values, what the order of the rows depends on."""
        return dict(dataset=self.dataloader.dataset.fingerprint(self.epoch))

    def next(self) -> Any:
        """Return the next micro-batch, from the next epoch when this one is over.

        Raises:
            ValueError: when an epoch has no micro-batch.
        """
        if self._iterator is None:
            self._start()
        try:
            batch = next(self._iterator)
        except StopIteration:
            if not self.position:
                raise ValueError(
                    f"train_dataloader: epoch {self.epoch} of the stream has no "
                    "micro-batch; it holds fewer rows than batch_size x ranks."
                ) from None
            self.seek(self.epoch + 1, 0)
            return self.next()
        self.position += 1
        return batch

    def _start(self) -> None:
        dataset = self.dataloader.dataset
        dataset.load_state_dict(dataset.place_of(self.epoch, self.position))
        if self.dataloader.generator is not None:
            self.dataloader.generator.manual_seed(self.epoch)
        self._iterator = iter(self.dataloader)
