"""Yes or no: POPE, MME and HallusionBench."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from mmvlm.evaluation.functional import yes_no
from mmvlm.evaluation.functional.intervals import group_ratio
from mmvlm.evaluation.scorers.base import (
    MeanScorer,
    Record,
    Scorer,
    Totals,
    Verdict,
    clusters_of,
    column,
    percent,
    rows_by,
    unread_note,
    unread_rows,
)
from mmvlm.registry import SCORERS

_OTHER = {"yes": "no", "no": "yes"}


def _judge(rule: str, record: Record) -> Verdict:
    """Read yes or no under a rule; ``strict`` wants the bare word."""
    text, label = record["text"], str(record["reference"]).lower()
    prediction = yes_no.READERS[rule](text)
    right = prediction == label
    return dict(
        score=float(right),
        strict=float(yes_no.read_exact_word(text) == label),
        lenient=float(right or yes_no.read_words(text) == label),
        parsed=yes_no.read_words(text) is not None,
        prediction=prediction,
    )


def _independent(records: Sequence[Record], verdicts: Sequence[Verdict]) -> np.ndarray:
    """Return what items score if the answers of their category fall on any of them."""
    scores = np.zeros(len(records))
    groups = rows_by(records, "category") or {"all": list(range(len(records)))}
    for rows in groups.values():
        answers = Counter(verdicts[row]["prediction"] for row in rows)
        for row in rows:
            label = str(records[row]["reference"]).lower()
            scores[row] = answers[label] / len(rows)
    return scores


@SCORERS.register_module()
class YesNoScorer(Scorer):
    """POPE: mean F1 over its subsets, yes being positive.

    ``reference`` is ``yes`` or ``no``; ``meta['category']`` the subset. Rules: ``pope``
    (what has no "no" word is yes), ``vlmevalkit`` (one of the words; anything else is
    wrong, and a no in F1) and ``lmms_eval`` (the bare word). An answer that failed or
    that the rule reads as neither counts as the opposite of the label elsewhere.

    Paper: Li et al., "Evaluating Object Hallucination in Large Vision-Language
    Models", EMNLP 2023, arXiv 2305.10355.
    """

    rules = ("pope", "vlmevalkit", "lmms_eval", "mme")
    headline = "f1"

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`."""
        return _judge(self.rule, record)

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`; metrics of a subset are ``<subset>/<name>``."""
        counts = np.array(
            [self._cells(r, v) for r, v in zip(records, verdicts, strict=True)],
            dtype=np.float64,
        ).reshape(-1, 4)
        scores = column(verdicts, "score")
        subsets = rows_by(records, "category") or {"all": list(range(len(records)))}
        unread = unread_rows(records, verdicts, "category")
        subsets = {name: sorted({*own, *unread}) for name, own in subsets.items()}
        units = np.zeros((len(records), len(subsets), 4))
        metrics = self._named(counts.sum(axis=0), scores)
        for place, (name, rows) in enumerate(subsets.items()):
            units[rows, place] = counts[rows]
            found = self._named(counts[rows].sum(axis=0), scores[rows])
            metrics.update({f"{name}/{key}": value for key, value in found.items()})
        units = units.reshape(len(records), -1)
        metrics["pooled_f1"] = metrics["f1"]
        metrics["f1"] = float(np.nan_to_num(_mean_f1(units.sum(axis=0))))
        notes = unread_note(unread, "subsets") if len(subsets) > 1 else {}
        totals = Totals(metrics, units, clusters_of(records), _mean_f1, notes)
        if lost := len(set(range(len(records))).difference(*subsets.values())):
            totals.notes["subsets"] = (
                f"{lost} items of no subset count in pooled_f1 only"
            )
        return totals

    def chance(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> float:
        """Return the F1 of answers as often yes that fall on any question."""
        sums = self.totals(records, verdicts).units.sum(axis=0).reshape(-1, 4)
        return float(np.nan_to_num(_mean_f1(yes_no.independent(sums).ravel())))

    def _cells(self, record: Record, verdict: Verdict) -> tuple[int, int, int, int]:
        label, predicted = str(record["reference"]).lower(), verdict["prediction"]
        if predicted is None:
            unread_is_no = self.rule == "vlmevalkit" and not verdict["failed"]
            predicted = "no" if unread_is_no else _OTHER.get(label, "no")
        return yes_no.confusion(label, predicted)

    @staticmethod
    def _named(counts: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        found = yes_no.binary_scores(counts)
        return {key: 100 * float(value) for key, value in found.items()} | {
            "acc": percent(scores)
        }


def _mean_f1(sums: np.ndarray) -> np.ndarray:
    """Headline: mean over subsets of 100 x F1."""
    counts = sums.reshape(*sums.shape[:-1], -1, 4)
    is_there = counts.any(axis=-1)
    f1 = np.where(is_there, yes_no.binary_scores(counts)["f1"], np.nan)
    return 100 * f1.mean(axis=-1)


@SCORERS.register_module()
class MMEScorer(Scorer):
    """MME: per task accuracy plus the share of images with all answers right.

    ``reference`` is ``yes`` or ``no``; ``meta['category']`` the task; the questions of
    an image share ``image``, wherever they stand. The headline is the sum over the
    ten perception tasks, at most 2,000.

    Paper: Fu et al., "MME", 2023, arXiv 2306.13394.
    """

    rules = ("mme", "vlmevalkit", "lmms_eval")
    headline = "perception"

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`."""
        return _judge(self.rule, record)

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`.

        Raises:
            ValueError: naming tasks that MME does not have.
        """
        unread = unread_rows(records, verdicts, "category")
        scores = column(verdicts, "score")
        tasks, images, units = self._units(records, scores, unread)
        parts = _mme_tasks(units.sum(axis=0))
        metrics = dict(zip(tasks, map(float, parts), strict=True))
        seen = np.array([task in yes_no.PERCEPTION for task in tasks], dtype=bool)
        metrics["perception"] = float(parts[seen].sum())
        metrics["cognition"] = float(parts[~seen].sum())
        metrics["other"] = float(sum(v["prediction"] is None for v in verdicts))

        def statistic(sums: np.ndarray) -> np.ndarray:
            parts = sums.reshape(*sums.shape[:-1], len(tasks), 4)
            return _mme_tasks(parts)[..., seen].sum(axis=-1)

        return Totals(
            metrics,
            units.reshape(len(units), len(tasks) * 4),
            clusters_of(images),
            statistic,
            unread_note(unread, "tasks"),
        )

    def chance(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> float:
        """Return the sum of answers as often yes that fall on any question."""
        expected = _independent(records, verdicts)
        unread = unread_rows(records, verdicts, "category")
        tasks, _, units = self._units(records, expected, unread, np.prod)
        parts = dict(zip(tasks, _mme_tasks(units.sum(axis=0)), strict=True))
        return float(sum(parts[task] for task in tasks if task in yes_no.PERCEPTION))

    @staticmethod
    def _units(
        records: Sequence[Record],
        scores: np.ndarray,
        unread: Sequence[int],
        whole: Callable = np.min,
    ) -> tuple[list[str], list[Record], np.ndarray]:
        """Return tasks, the first record of every image, and (images, tasks, 4).

        ``whole`` makes of the scores of an image's answers whether all are right. A
        row of ``unread`` is an image of its own, in every task.
        """
        known = (*yes_no.PERCEPTION, *yes_no.COGNITION)
        tasks = [name for name in known if name in rows_by(records, "category")]
        if foreign := set(rows_by(records, "category")) - set(known):
            raise ValueError(f"MME has no tasks {sorted(foreign)}; known: {known}")
        images: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index in sorted(set(range(len(records))).difference(unread)):
            record = records[index]
            if "category" not in record["meta"]:
                raise KeyError(f"record {record.get('uid')!r} names no task of MME.")
            images[record["meta"]["category"], str(record["image"])].append(index)
        # Of each image: right answers, questions, all right, 1.
        units = np.zeros((len(images) + len(unread), len(tasks), 4))
        units[len(images) :] = 0, 1, 0, 1
        for row, ((task, _), members) in enumerate(images.items()):
            right = scores[members]
            counts = right.sum(), len(right), whole(right), 1
            units[row, tasks.index(task)] = counts
        first = [members[0] for members in images.values()]
        return tasks, [records[row] for row in (*first, *unread)], units


def _mme_tasks(sums: np.ndarray) -> np.ndarray:
    """Return task scores, (..., T) of (..., T, 4) sums."""
    right, questions, whole, images = np.moveaxis(sums, -1, 0)
    return 100 * (group_ratio(right, questions) + group_ratio(whole, images))


@SCORERS.register_module()
class HallusionBenchScorer(MeanScorer):
    """HallusionBench: accuracy of all questions, and of whole figures and questions.

    ``reference`` is ``yes`` or ``no``; ``question_id`` the TSV's index, whose fields 3,
    4 and 5 between underscores are set, figure and question; ``meta['l2-category']``
    is part of a group's name. An answer with both words or neither is wrong.

    Paper: Guan et al., "HallusionBench", CVPR 2024, arXiv 2310.14566.
    """

    rules = ("vlmevalkit", "pope", "lmms_eval")
    headline = "aAcc"
    group_keys = ("category", "l2-category")

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`."""
        return _judge(self.rule, record)

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`MeanScorer.totals`."""
        totals = super().totals(records, verdicts)
        scores = column(verdicts, "score")
        unread = unread_rows(records, verdicts, "l2-category")
        for name, field in (("fAcc", 4), ("qAcc", 5)):
            groups: dict[tuple, list[float]] = defaultdict(list)
            for index, (record, score) in enumerate(zip(records, scores, strict=True)):
                if index in unread:  # a group of its own
                    groups[(index,)].append(score)
                    continue
                fields = str(record["question_id"]).split("_")
                kind = record["meta"].get("l2-category")
                groups[kind, fields[3], fields[field]].append(score)
            whole = np.array([min(found) for found in groups.values()])
            totals.metrics[name] = percent(whole)
        return totals

    def chance(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> float:
        """Return the accuracy of answers as often yes that fall on any question."""
        return self._headline_of(records, verdicts, _independent(records, verdicts))
