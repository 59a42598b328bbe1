"""Counts samples that were left out or cut, and reports them at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from mmengine.hooks import Hook

from mmvlm.registry import HOOKS
from mmvlm.utils.dist import gather_objects

#: Why a sample that is whole may train nothing.
_UNTRAINED = " (empty answers, answers of weight 0, or LLaVA's count failed)"


class SampleCount:
    """What one pass over a dataset left out or cut, samples and parts of them.

    Args:
        dataset (Dataset): its members' policies give the limits; a foreign dataset
            without a policy is not counted.
    """

    def __init__(self, dataset: Any) -> None:
        from mmvlm.datasets.bad_samples import BadSampleCounter

        has_policy = hasattr(dataset, "bad_samples") or hasattr(dataset, "datasets")
        self.counter = BadSampleCounter.from_dataset(dataset) if has_policy else None
        self.num_samples = 0
        self.truncated: Counter[str] = Counter()
        self.truncated_tokens: Counter[str] = Counter()
        self.dropped_regions: Counter[str] = Counter()
        self.dropped_labels: Counter[str] = Counter()
        self.dropped_turns: Counter[str] = Counter()

    def add(self, batches: Iterable[Any]) -> None:
        """Count batches.

        Raises:
            DataError: when more samples are bad than the dataset allows, or more
                than half of them train nothing.
        """
        for batch in batches:
            samples = batch.get("data_samples") or ()
            for sample in samples:
                self._add_sample(getattr(sample, "metainfo", {}))
            self.num_samples += len(samples)
            if self.counter is not None:
                bad = batch.get("bad_records") or ()
                self.counter.add(bad, _num_records(samples) + len(bad))
                if bad:
                    self.counter.check()
            self._check_untrained()

    def _check_untrained(self) -> None:
        untrained = self.dropped_labels.total()
        floor = 1 if self.counter is None else self.counter.floor
        if untrained > max(self.num_samples, floor) / 2:
            from mmvlm.datasets.bad_samples import DataError

            raise DataError(
                f"{untrained} of {self.num_samples} samples train no token"
                f"{_UNTRAINED}. {self.report()}"
            )

    def _add_sample(self, facts: dict) -> None:
        name = facts.get("dataset", "?")
        if cut := facts.get("truncated_tokens", 0):
            self.truncated[name] += 1
            self.truncated_tokens[name] += cut
            self.dropped_regions[name] += facts.get("dropped_regions", 0)
        if facts.get("dropped_labels", False):
            self.dropped_labels[name] += 1
        if turns := (facts.get("meta") or {}).get("dropped_turns", 0):
            self.dropped_turns[name] += turns

    def report(self) -> str:
        """Return the counts in words."""
        lines = [] if self.counter is None else [self.counter.report()]
        for name, count in sorted(self.truncated.items()):
            what = f"{count} samples, {self.truncated_tokens[name]} tokens"
            if regions := self.dropped_regions[name]:
                what += f" and {regions} regions"
            lines.append(f"Truncated: {name}: {what} cut.")
        for name, count in sorted(self.dropped_labels.items()):
            lines.append(f"Untrained: {name}: {count} samples{_UNTRAINED}.")
        for name, count in sorted(self.dropped_turns.items()):
            lines.append(f"Leading answers left out: {name}: {count} turns.")
        return "\n".join(lines)


def _num_records(samples: Iterable[Any]) -> int:
    """Count records; one may have become conversations whose ids differ."""
    most: Counter[tuple] = Counter()
    facts = [getattr(sample, "metainfo", {}) for sample in samples]
    names = ("dataset", "index", "sample_id")
    ids = Counter(tuple(one.get(name) for name in names) for one in facts)
    for (dataset, index, _), count in ids.items():
        most[dataset, index] = max(most[dataset, index], count)
    return most.total()


@HOOKS.register_module()
class BadSamplesHook(Hook):
    """Hold bad samples against the dataset's limit and report all at the end.

    What was counted before a resume is reported too. Limits are held per rank, at
    once, so that a broken disk does not eat the dataset for an epoch.
    """

    def __init__(self) -> None:
        self.count: SampleCount | None = None
        self.resumed: list[str] = []

    def state_dict(self) -> dict:
        """Return the report so far, in words."""
        own = [] if self.count is None else [self.count.report()]
        return dict(reports=[*self.resumed, *own])

    def load_state_dict(self, state: dict) -> None:
        """Keep the report of the run before."""
        self.resumed = [text for text in state["reports"] if text]

    def before_train(self, runner: Any) -> None:
        """Begin to count."""
        self.count = SampleCount(runner.train_dataloader.dataset)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count a step's micro-batches."""
        self.count.add(data_batch)

    def after_train(self, runner: Any) -> None:
        """Log what all ranks have left out or cut."""
        for text in filter(None, self.resumed):
            runner.logger.info(f"[before the resume] {text}")
        self._log(runner)

    def before_test(self, runner: Any) -> None:
        """Begin to count."""
        self.count = SampleCount(runner.test_dataloader.dataset)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count a batch."""
        self.count.add([data_batch])

    def after_test(self, runner: Any) -> None:
        """Log what all ranks have left out or cut."""
        self._log(runner)

    def _log(self, runner: Any) -> None:
        reports = gather_objects(self.count.report())
        for rank, text in enumerate(reports):
            where = f"[rank {rank}] " if len(reports) > 1 else ""
            if text:
                runner.logger.info(f"{where}{text}")
