"""The one place that catches data errors: policy, quarantine file and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

POLICIES = ("raise", "skip", "quarantine")

#: What damaged data makes Python raise. Everything else is a fault of the code
#: and is never skipped.
DATA_ERRORS = (ValueError, KeyError, IndexError, TypeError, OSError)


class DataError(ValueError):
    """A sample that cannot be used; the message names dataset and sample."""


@dataclass(frozen=True)
class BadRecord:
    """What stands in a batch for a sample that was left out.

    Args:
        dataset (str): name of the dataset.
        index (int): number of the record in the annotation file.
        id (str): the sample's id as the file gives it.
        path (str): the image, or the annotation file of a text-only record.
        reason (str): why it was left out.
        kind (str): ``bad`` (damaged), ``quarantined`` (listed in the quarantine
            file before this run) or what the error's ``counted_as`` says
            (``dropped``: left out on purpose, for example as too long).
        limited (bool): False for one that the dataset doctor has listed.
    """

    dataset: str
    index: int
    id: str
    path: str
    reason: str
    kind: str = "bad"
    limited: bool = True


def reason_of(error: BaseException) -> str:
    """Return the message of an error; ``KeyError`` would quote its own."""
    text = str(error.args[0]) if error.args else ""
    if isinstance(error, OSError):
        text = str(error)
    named = isinstance(error, ValueError | OSError) and text
    return text if named else f"{type(error).__name__}: {text}"


class BadSamplePolicy:
    """What happens to a sample that fails.

    An error that carries an attribute ``counted_as`` (a sample left out on
    purpose, for example dropped as too long) is counted under every policy.

    Args:
        policy (str): ``raise`` stops; ``skip`` leaves the sample out as long as
            no more than ``max_fraction`` fail; ``quarantine`` also lists it in
            ``file``, whose samples are not tried again.
        max_fraction (float): 0-1, held by :class:`BadSampleCounter`.
        file (str | None): the quarantine file.

    Raises:
        ValueError: for an unknown policy, a fraction outside 0-1, or
            ``quarantine`` without a file.
    """

    def __init__(
        self,
        policy: str = "raise",
        max_fraction: float = 0.01,
        file: str | None = None,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(
                f"bad_samples.policy='{policy}': expected one of {list(POLICIES)}."
            )
        if not 0 <= max_fraction <= 1:
            raise ValueError(
                f"bad_samples.max_fraction={max_fraction}: expected 0 to 1."
            )
        if (policy == "quarantine") != (file is not None):
            raise ValueError(
                f"bad_samples.file={file!r} with policy='{policy}': 'quarantine' "
                "needs a file, the other policies take none."
            )
        self.policy = policy
        self.max_fraction = max_fraction
        self.quarantine: Any = None
        if file is not None:
            from .quarantine import QuarantineFile

            self.quarantine = QuarantineFile(file)

    def listed(
        self, *, dataset: str, index: int, sample_id: str, path: str
    ) -> BadRecord | None:
        """Return the record of a sample that the quarantine file lists."""
        if self.quarantine is None:
            return None
        reason = self.quarantine.reason(dataset, index, sample_id)
        if reason is None:
            return None
        decided = self.quarantine.is_decided(dataset, index, sample_id)
        return BadRecord(
            dataset, index, sample_id, path, reason, "quarantined", not decided
        )

    def handle(
        self,
        error: Exception,
        *,
        where: str,
        dataset: str,
        index: int,
        sample_id: str,
        path: str,
    ) -> BadRecord:
        """Turn an error into a record, or raise it with the sample's name.

        Args:
            error (Exception): what reader or pipeline raised.
            where (str): the sample in words, for the message.
            dataset (str): see :class:`BadRecord`, as the next three.
            index (int): number of the record.
            sample_id (str): its id.
            path (str): its image or file.

        Raises:
            DataError: under ``raise``.
            RuntimeError: under every policy, when the error is a fault of the
                code and not of the data.
        """
        # Transforms name the sample as well; once is enough.
        reason = reason_of(error).removeprefix(f"sample {index} of {dataset}: ")
        counted_as = getattr(error, "counted_as", None)
        if counted_as is not None:
            return BadRecord(dataset, index, sample_id, path, reason, str(counted_as))
        if not isinstance(error, DATA_ERRORS):
            raise RuntimeError(f"{where}: {reason}") from error
        if self.policy == "raise":
            raise DataError(f"{where}: {reason}") from error
        record = BadRecord(dataset, index, sample_id, path, reason)
        if self.quarantine is not None:
            self.quarantine.append(record)
        return record


class BadSampleCounter:
    """Counts what was left out, in the main process, from ``bad_records``.

    Args:
        max_fraction (float): of the samples seen that may be damaged or
            quarantined, 0-1. Samples dropped on purpose are counted apart.
        total (int): samples of an epoch. The fraction is taken of at least
            ``min(total, 1000)`` samples, so that one early failure does not
            stop a run. Samples that the dataset doctor has listed are counted, but
            not held against it.
    """

    def __init__(self, max_fraction: float = 0.01, total: int = 1000) -> None:
        self.max_fraction = max_fraction
        self.floor = max(1, min(total, 1000))
        self.num_seen = self.num_bad = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        self.examples: dict[tuple[str, str], list[BadRecord]] = {}

    @classmethod
    def from_dataset(cls, dataset: Any) -> BadSampleCounter:
        """Build a counter for a dataset or mixture.

        The limits of a mixture's members are averaged, weighted by their sizes.
        """
        leaves = list(leaf_datasets(dataset))
        sizes = [len(leaf) if hasattr(leaf, "__len__") else 1 for leaf in leaves]
        limits = [leaf.bad_samples.max_fraction for leaf in leaves]
        total = max(1, sum(sizes))
        mean = sum(n * limit for n, limit in zip(sizes, limits, strict=True)) / total
        known = hasattr(dataset, "__len__")  # streams do not know their length
        return cls(max_fraction=mean, **(dict(total=len(dataset)) if known else {}))

    def add(self, records: Iterable[BadRecord], num_seen: int) -> None:
        """Count a batch.

        Args:
            records (Iterable[BadRecord]): the batch's ``bad_records``.
            num_seen (int): samples of the batch, the bad ones included.
        """
        self.num_seen += num_seen
        for record in records:
            key = (record.dataset, record.kind)
            self.counts[key] += 1
            self.num_bad += record.kind in _LIMITED and record.limited
            shown = self.examples.setdefault(key, [])
            if len(shown) < 3 and record not in shown:
                shown.append(record)

    def check(self) -> None:
        """Hold the count against the limit.

        Raises:
            DataError: naming counts and first reasons, when too many are bad.
        """
        allowed = self.max_fraction * max(self.num_seen, self.floor)
        if self.num_bad > allowed:
            raise DataError(
                f"{self.num_bad} of {self.num_seen} samples are bad, more than "
                f"bad_samples.max_fraction={self.max_fraction:g} allows. "
                f"{self.report()}"
            )

    def report(self) -> str:
        """Return one line per dataset and kind with the first reasons."""
        if not self.counts:
            return f"Bad samples: none of {self.num_seen}."
        lines = [f"Bad samples: of {self.num_seen} seen"]
        for (dataset, kind), count in sorted(self.counts.items()):
            shown = "; ".join(
                f"sample {r.index} (id '{r.id}', {r.path}): {r.reason:.300}"
                for r in self.examples[dataset, kind]
            )
            lines.append(f"  {dataset}: {count} {kind}, for example {shown}")
        return "\n".join(lines)


_LIMITED = ("bad", "quarantined")


def leaf_datasets(dataset: Any) -> Iterable[Any]:
    """Yield the readers below a (nested) mixture, or the dataset itself."""
    members = getattr(dataset, "datasets", None)
    if members is None:
        yield dataset
        return
    for member in members:
        yield from leaf_datasets(member)
