"""Counts samples that were left out or cut, and reports them at the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mmengine.hooks import Hook

from mmvlm.registry import HOOKS
from mmvlm.utils.dist import gather_objects


@HOOKS.register_module()
class BadSamplesHook(Hook):
    """Hold bad samples against the data set's limit and report all at the end.

    Counts survive a resume. Limits are held per rank, at once, so that a broken
    disk does not eat the data set for an epoch.
    """

    def __init__(self) -> None:
        self.counter: Any = None
        self.truncated: Counter[str] = Counter()
        self.truncated_tokens: Counter[str] = Counter()
        self.resumed: list[str] = []

    def state_dict(self) -> dict:
        """Return the report so far, in words."""
        return dict(
            reports=[*self.resumed, *([self._report()] if self.counter else [])]
        )

    def load_state_dict(self, state: dict) -> None:
        """Keep the report of the run before."""
        self.resumed = [text for text in state["reports"] if text]

    def before_train(self, runner: Any) -> None:
        """Make a counter with the limits of the training data."""
        from mmvlm.datasets.bad_samples import BadSampleCounter

        dataset = runner.train_dataloader.dataset
        try:
            self.counter = BadSampleCounter.from_dataset(dataset)
        except AttributeError:  # a foreign data set without a policy
            self.counter = None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count a step's micro-batches.

        Raises:
            DataError: when more samples are bad than the data set allows.

        """
        for batch in data_batch:
            samples = batch.get("data_samples") or ()
            for sample in samples:
                cut = sample.metainfo.get("truncated_tokens", 0)
                if cut:
                    self.truncated[sample.metainfo.get("dataset", "?")] += 1
                    self.truncated_tokens[sample.metainfo.get("dataset", "?")] += cut
            if self.counter is not None:
                bad = batch.get("bad_records") or ()
                self.counter.add(bad, len(samples) + len(bad))
                if bad:
                    self.counter.check()

    def after_train(self, runner: Any) -> None:
        """Log what all ranks have left out or cut."""
        for text in filter(None, self.resumed):
            runner.logger.info(f"[before the resume] {text}")
        reports = gather_objects(self._report())
        for rank, text in enumerate(reports):
            where = f"[rank {rank}] " if len(reports) > 1 else ""
            if text:
                runner.logger.info(f"{where}{text}")

    def _report(self) -> str:
        lines = [] if self.counter is None else [self.counter.report()]
        for name, count in sorted(self.truncated.items()):
            tokens = self.truncated_tokens[name]
            lines.append(f"Truncated: {name}: {count} samples, {tokens} tokens cut.")
        return "\n".join(lines)
