"""What every scorer shares: verdicts of records, totals that can be resampled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from mmvlm.evaluation.functional.chance import others_of_a_kind
from mmvlm.evaluation.functional.intervals import Statistic, ratio

Record = dict[str, Any]
Verdict = dict[str, Any]

#: Answers to deal out for the chance of short answers, and rounds at most.
_DEALT, _MOST_ROUNDS = 20_000, 32


@dataclass
class Totals:
    """Numbers of one benchmark, and what its headline is a function of.

    The headline is ``statistic(units.sum(0))``, so that one resampling of clusters
    gives an interval for a mean, an F1, a sum of task scores or an IoU alike.

    Attributes:
        metrics (dict[str, float]): all numbers, in the unit in which they are
            published; the headline is one of them.
        units (np.ndarray): (U, K) float64, additive statistics of U units (items,
            images or groups).
        clusters (np.ndarray): (U,) int, the cluster (image or group) of each unit.
        statistic (Callable): sums (..., K) to headlines (...).
        notes (dict[str, str]): what the row must say besides, such as why a metric
            is not computed.
    """

    metrics: dict[str, float]
    units: np.ndarray
    clusters: np.ndarray
    statistic: Statistic
    notes: dict[str, str] = field(default_factory=dict)


def has_failed(record: Record) -> bool:
    """Whether a question could not be asked; its answer is wrong."""
    return record.get("finish") == "error"


class Scorer(ABC):
    """Score answer records (version 1) under one named rule.

    A subclass says what one answer is worth (:meth:`judge`) and how a set is
    summed up (:meth:`totals`). Scoring needs the records alone: no model, no file.

    Args:
        rule (str | None): one of ``rules``. Default: the first, which is the one
            behind the published numbers.

    Raises:
        ValueError: naming the known rules, for another one.
    """

    #: Known rules; the first is the default.
    rules: ClassVar[tuple[str, ...]] = ("official",)
    #: Key in ``Totals.metrics`` of the number to report.
    headline: str = "acc"
    #: Rules that score ``meta["pred_regions"]``: the text of an answer does not do.
    region_rules: ClassVar[tuple[str, ...]] = ()

    def __init__(self, rule: str | None = None) -> None:
        self.rule = self.known_rule(rule)

    @classmethod
    def known_rule(cls, rule: str | None) -> str:
        """Return the name of a rule, the default one for None.

        Raises:
            ValueError: naming the known rules, for another one.
        """
        rule = rule or cls.rules[0]
        if rule not in cls.rules:
            raise ValueError(
                f"{cls.__name__}: no rule is named {rule!r}; known are "
                f"{', '.join(cls.rules)}."
            )
        return rule

    @property
    def needs_regions(self) -> bool:
        """Whether the rule scores regions that an answer's text does not hold."""
        return self.rule in self.region_rules

    def verdict(self, record: Record) -> Verdict:
        """Judge one answer record; any text gets a verdict.

        A record whose ``finish`` is ``error`` is wrong, and counted as ``failed``.

        Args:
            record (dict): answer record with ``text``, ``finish``, ``reference`` and
                ``meta``.

        Returns:
            dict: JSON-able: ``score`` (under the rule), ``strict`` and ``lenient``
            (all 0-1), ``parsed`` (bool), ``failed`` (bool), ``prediction`` (what was
            read from the text, or None) and what :meth:`totals` needs besides.

        Raises:
            ValueError: naming the record, when it has no reference to score with.
            KeyError: naming the record, when ``meta`` lacks what the scorer reads.
        """
        if record.get("reference") is None:
            raise ValueError(
                f"record {record.get('uid')!r} has no reference: its split hides the "
                "answers. Write a submission instead of scoring it."
            )
        failed = has_failed(record)
        found = dict(score=0.0, parsed=False, prediction=None)
        try:
            found.update({} if failed else self.judge(record))
        except KeyError as error:
            raise KeyError(
                f"record {record.get('uid')!r} lacks {error} in 'meta', which "
                f"{type(self).__name__} needs; see its documentation."
            ) from error
        score = float(found["score"])
        return {"strict": score, "lenient": score, "failed": failed, **found}

    def reference_answer(self, record: Record) -> dict[str, Any]:
        """Return what answers a question with its reference.

        Returns:
            dict: ``text``, and ``pred_regions`` where the answer holds regions.
        """
        reference = record["reference"]
        texts = [reference] if isinstance(reference, str) else list(reference or ())
        texts = [one for one in texts if isinstance(one, str)]
        return dict(text=Counter(texts).most_common(1)[0][0] if texts else "")

    @abstractmethod
    def judge(self, record: Record) -> Verdict:
        """Return ``score``, ``parsed``, ``prediction`` of a record that was answered.

        ``strict`` and ``lenient`` default to ``score``.
        """

    @abstractmethod
    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """Sum up a set, in any order of its records.

        Args:
            records (Sequence[dict]): answer records.
            verdicts (Sequence[dict]): their verdicts, in the same order.

        Returns:
            Totals: numbers and resampling units.
        """

    def chance(
        self, records: Sequence[Record], verdicts: Sequence[Verdict]
    ) -> float | None:
        """Return the headline of answers that do not depend on the image.

        None, which is the default: the answers do not tell, the benchmark may.

        Args:
            records (Sequence[dict]): answer records.
            verdicts (Sequence[dict]): their verdicts, in the same order.
        """
        return None


class MeanScorer(Scorer):
    """A scorer whose headline is the mean of the item scores, in percent.

    Args:
        rule (str | None): see :class:`Scorer`.
        groups (Sequence[str] | None): keys of ``meta`` to break the mean down by, each
            value of which becomes a metric ``key/value``. Default: ``group_keys``.
    """

    #: Default of ``groups``.
    group_keys: ClassVar[tuple[str, ...]] = ("category",)

    def __init__(
        self, rule: str | None = None, groups: Sequence[str] | None = None
    ) -> None:
        super().__init__(rule)
        self.groups = tuple(self.group_keys if groups is None else groups)

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`; metrics hold strict and lenient means too."""
        scores = column(verdicts, "score")
        metrics = {self.headline: percent(scores)}
        for key in ("strict", "lenient"):
            metrics[key] = percent(column(verdicts, key))
        for key in self.groups:
            for value, rows in rows_by(records, key).items():
                metrics[f"{key}/{value}"] = percent(scores[rows])
        return Totals(metrics, with_ones(scores), clusters_of(records), mean_percent)

    def _headline_of(
        self,
        records: Sequence[Record],
        verdicts: Sequence[Verdict],
        scores: Sequence[float],
    ) -> float:
        """Return the headline of the verdicts with other scores."""
        pairs = zip(verdicts, scores, strict=True)
        expected = [{**verdict, "score": float(score)} for verdict, score in pairs]
        return self.totals(records, expected).metrics[self.headline]

    def _dealt(self, records: Sequence[Record]) -> list[float]:
        """Return the scores of answers that are dealt out at random, 0 of a single one.

        Every question gets the answer to another one of its kind
        (:func:`mmvlm.evaluation.functional.chance.question_kind`), as in the agreement
        by chance of Cohen's kappa: the answers keep their shares, and what a question
        says without its image still counts. Questions that failed get none, and 0.
        """
        places = [place for place, one in enumerate(records) if not has_failed(one)]
        scores = np.zeros(len(records))
        if len(places) > 1:
            scores[places] = self._dealt_among([records[place] for place in places])
        return scores.tolist()

    def _dealt_among(self, records: Sequence[Record]) -> list[float]:
        rounds = min(_MOST_ROUNDS, -(-_DEALT // len(records)))
        known: dict[tuple[int, str], float] = {}

        def score(place: int, text: str) -> float:
            if (place, text) not in known:
                record = {**records[place], "text": text}
                known[place, text] = self.verdict(record)["score"]
            return known[place, text]

        dealt = others_of_a_kind([one["question"] or "" for one in records], rounds)
        return [
            float(np.mean([score(place, records[other]["text"]) for other in others]))
            for place, others in enumerate(dealt.T.tolist())
        ]


class ShortAnswerScorer(MeanScorer):
    """A mean whose questions are answered in words of the model's own."""

    def chance(
        self, records: Sequence[Record], verdicts: Sequence[Verdict]
    ) -> float | None:
        """Return the headline of the same answers, dealt out at random."""
        if len(records) - sum(map(has_failed, records)) < 2:
            return None
        return self._headline_of(records, verdicts, self._dealt(records))


def column(verdicts: Sequence[Verdict], key: str) -> np.ndarray:
    """Return one number of every verdict, (items,) float64."""
    return np.array([verdict[key] for verdict in verdicts], dtype=np.float64)


def percent(scores: np.ndarray) -> float:
    """Return 100 x mean; 0 of an empty set."""
    return 100.0 * float(np.mean(scores)) if len(scores) else 0.0


def with_ones(scores: np.ndarray) -> np.ndarray:
    """Return the units of a mean: (items, 2) of score and 1."""
    return np.stack([scores, np.ones_like(scores)], axis=1)


def mean_percent(sums: np.ndarray) -> np.ndarray:
    """Headline of units of (score, 1): 100 x mean."""
    return 100.0 * ratio(sums[..., 0], sums[..., 1])


def codes(values: Sequence[Hashable]) -> np.ndarray:
    """Number the distinct values in order of appearance, (items,) int64."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(v, len(known)) for v in values], dtype=np.int64)


def clusters_of(records: Sequence[Record]) -> np.ndarray:
    """Return the cluster of every record; a record without one is its own."""
    return codes(
        [
            ("uid", r.get("uid", i)) if r.get("cluster") is None else str(r["cluster"])
            for i, r in enumerate(records)
        ]
    )


def rows_by(records: Sequence[Record], key: str) -> dict[str, list[int]]:
    """Return the row numbers of each value of a key of ``meta``, values sorted.

    Records that lack the key are in none.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        value = (record.get("meta") or {}).get(key)
        if value is not None:
            rows[str(value)].append(index)
    return dict(sorted(rows.items()))


def unread_rows(
    records: Sequence[Record], verdicts: Sequence[Verdict], key: str
) -> list[int]:
    """Return the rows that failed before a key of ``meta`` was known.

    A damaged question may belong to any group; a total of groups takes it as wrong in
    each, so that no group is easier for it.
    """
    pairs = enumerate(zip(records, verdicts, strict=True))
    return [
        index
        for index, (record, verdict) in pairs
        if verdict["failed"] and (record.get("meta") or {}).get(key) is None
    ]


def unread_note(rows: Sequence[int], groups: str) -> dict[str, str]:
    """Return what a row of results says of :func:`unread_rows`, nothing of none."""
    text = f"{len(rows)} items that could not be read count as wrong in all {groups}"
    return {"unread": text} if rows else {}
