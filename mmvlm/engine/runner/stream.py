"""Micro-batches as one endless stream whose place can be saved and restored."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader


class MicroBatchStream:
    """Walk a dataloader over epochs, without a break between them.

    ``(epoch, position)`` names the next micro-batch; :meth:`seek` goes there without
    loading anything before it.

    Args:
        dataloader (DataLoader): its batch sampler offers ``set_epoch`` and
            ``set_position``.

    Raises:
        TypeError: when the batch sampler offers neither.
        ValueError: when an epoch has no micro-batch.
    """

    def __init__(self, dataloader: DataLoader) -> None:
        sampler = dataloader.batch_sampler
        if not all(hasattr(sampler, name) for name in ("set_epoch", "set_position")):
            raise TypeError(
                f"train_dataloader.sampler: {type(sampler).__name__} cannot be resumed "
                "in mid-epoch. Use a batch sampler with set_epoch(epoch) and "
                "set_position(batch), for example type='RandomBatchSampler'."
            )
        if len(sampler) == 0:
            raise ValueError(
                f"train_dataloader: an epoch has no micro-batch "
                f"({len(dataloader.dataset)} samples in the data set)."
            )
        self.dataloader = dataloader
        self.sampler = sampler
        self.epoch = 0
        self.position = 0
        self._iterator: Any = None

    def __len__(self) -> int:
        """Micro-batches of the current epoch."""
        return self.length_at(self.epoch)

    @property
    def length(self) -> int | None:
        """Micro-batches of the current epoch; None where nobody knows."""
        return len(self)

    @property
    def passed(self) -> float:
        """Epochs that are over, with the share of the current one where it is known."""
        return self.epoch + self.position / len(self)

    def length_at(self, epoch: int) -> int:
        """Micro-batches of an epoch; samplers that pack have more in some."""
        if hasattr(self.sampler, "batches_at"):
            return self.sampler.batches_at(epoch)
        return len(self.sampler)

    def length_of(self, epochs: int) -> int:
        """Micro-batches of the first ``epochs`` epochs."""
        return sum(map(self.length_at, range(epochs)))

    def epochs_of(self, count: int) -> int:
        """Epochs that the first ``count`` micro-batches touch."""
        epoch, left = 0, count
        while left > 0:
            left -= self.length_at(epoch)
            epoch += 1
        return epoch

    def fingerprint(self) -> dict[str, Any]:
        """Return, in plain values, what the order of the current epoch depends on."""
        facts = {}
        if hasattr(self.sampler, "fingerprint"):
            facts["sampler"] = self.sampler.fingerprint(self.epoch)
        if hasattr(self.dataloader.dataset, "fingerprint"):
            facts["dataset"] = self.dataloader.dataset.fingerprint(self.epoch)
        return facts

    def seek(self, epoch: int, position: int) -> None:
        """Make ``position`` of ``epoch`` the next micro-batch."""
        self.epoch, self.position = int(epoch), int(position)
        self._iterator = None

    def close(self) -> None:
        """End the loader's workers; the next micro-batch starts others."""
        self._iterator = None
        # Workers that persist hang on the loader.
        self.dataloader._iterator = None

    def next(self) -> Any:
        """Return the next micro-batch, from the next epoch when this one is over."""
        if self._iterator is None:
            self._start()
        batch = next(self._iterator)
        self.position += 1
        if self.position >= len(self):
            self.seek(self.epoch + 1, 0)
        return batch

    def _start(self) -> None:
        dataset = self.dataloader.dataset
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(self.epoch)
        self.sampler.set_epoch(self.epoch)
        self.sampler.set_position(self.position)
        if self.dataloader.generator is not None:
            # The loader draws a seed for its workers here; from a generator of
            # its own, so that a resumed run draws nothing from the global one.
            self.dataloader.generator.manual_seed(self.epoch)
        self._iterator = iter(self.dataloader)
