"""What the doctor found, and the files it leaves."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mmvlm.utils.files import write_atomic

_PERCENTILES = (0, 50, 90, 99, 100)


@dataclass(frozen=True)
class Finding:
    """One sample and what a rule says of it.

    Args:
        rule (str): name of the rule.
        level (str): ``problem`` or ``warning``.
        dataset (str): name of the dataset.
        index (int): number of the record in the file.
        id (str): as the file gives it.
        path (str): first image, or the annotation file.
        reason (str): what is wrong.
    """

    rule: str
    level: str
    dataset: str
    index: int
    id: str
    path: str
    reason: str


@dataclass
class MemberFacts:
    """Numbers of one dataset.

    Args:
        name (str): of the dataset.
        ann_file (str): its file.
        num_samples (int): all of them.
        num_seen (int): those that were looked at.
        num_images (int): images of those.
        per_epoch (float): samples that an epoch of the mixture takes.
        max_length (int | None): the pipeline's limit.
        tokens (list[int]): per sample, before any cut; empty without tokenizer.
        trained (list[int]): of them.
        words (list[int]): per sample.
    """

    name: str
    ann_file: str
    num_samples: int
    num_seen: int
    num_images: int
    per_epoch: float
    max_length: int | None = None
    tokens: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)

    @property
    def tokens_per_epoch(self) -> float | None:
        """Tokens that an epoch takes, from the mean; None without tokenizer."""
        if not self.tokens:
            return None
        return self.per_epoch * sum(self.tokens) / len(self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return numbers and percentiles, without the lists."""
        row = {k: v for k, v in asdict(self).items() if not isinstance(v, list)}
        for key in ("tokens", "trained", "words"):
            row[key] = _summary(getattr(self, key))
        row["tokens_per_epoch"] = self.tokens_per_epoch
        return row


@dataclass
class DataReport:
    """Everything that a walk found.

    Args:
        members (list[MemberFacts]): one per dataset.
        levels (dict[str, str]): every rule that was applied, and its level.
        findings (list[Finding]): in order of datasets and records.
        tallies (dict[str, Counter]): what note rules counted.
        interrupted (bool): whether the walk was stopped.
        num_planned (int): samples that were to be looked at.
        notes (list[str]): what the caller has to add.
    """

    members: list[MemberFacts]
    levels: dict[str, str]
    findings: list[Finding]
    tallies: dict[str, Counter]
    interrupted: bool
    num_planned: int
    notes: list[str] = field(default_factory=list)

    @property
    def num_seen(self) -> int:
        """Samples that were looked at."""
        return sum(member.num_seen for member in self.members)

    def of_rule(self, name: str) -> list[Finding]:
        """Return the findings of a rule."""
        return [finding for finding in self.findings if finding.rule == name]

    def bad_samples(self) -> list[Finding]:
        """Return the first problem of every sample that has one."""
        first: dict[tuple, Finding] = {}
        for finding in self.findings:
            if finding.level == "problem":
                first.setdefault((finding.dataset, finding.index, finding.id), finding)
        return list(first.values())

    def is_clean(self, strict: bool = False) -> bool:
        """Whether there is no problem; with ``strict`` no warning either."""
        levels = ("problem", "warning") if strict else ("problem",)
        return not any(finding.level in levels for finding in self.findings)

    def to_dict(self, examples: int = 20) -> dict[str, Any]:
        """Return plain values, for JSON."""
        rules = {}
        for name, level in self.levels.items():
            found = self.of_rule(name)
            rules[name] = dict(
                level=level,
                findings=len(found),
                samples=len({(f.dataset, f.index) for f in found}),
                counts=dict(self.tallies.get(name, {})),
                examples=[asdict(finding) for finding in found[:examples]],
            )
        return dict(
            clean=self.is_clean(),
            interrupted=self.interrupted,
            samples_planned=self.num_planned,
            samples_seen=self.num_seen,
            samples_bad=len(self.bad_samples()),
            notes=self.notes,
            rules=rules,
            datasets=[member.to_dict() for member in self.members],
        )

    def write(self, folder: str | os.PathLike) -> list[str]:
        """Write ``report.json`` and ``quarantine.jsonl``; returns their paths.

        The quarantine file has the lines that :class:`QuarantineFile` reads, so
        ``bad_samples=dict(policy='quarantine', file=...)`` leaves out exactly
        the samples with a problem.
        """
        paths = [os.path.join(folder, n) for n in ("report.json", "quarantine.jsonl")]
        rows = (
            dict(
                dataset=finding.dataset,
                index=finding.index,
                id=finding.id,
                path=finding.path,
                reason=f"{finding.rule}: {finding.reason}",
                by="check_dataset",
            )
            for finding in self.bad_samples()
        )
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        write_atomic(paths[0], text)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomic(paths[1], lines)
        return paths


def _summary(values: Sequence[int]) -> dict[str, float] | None:
    """Return sum, mean and percentiles."""
    if not values:
        return None
    import numpy as np

    numbers = np.percentile(values, _PERCENTILES)
    shown = {
        f"p{p}": float(n) for p, n in zip(_PERCENTILES, numbers.tolist(), strict=True)
    }
    return dict(sum=int(np.sum(values)), mean=float(np.mean(values)), **shown)
