"""Multiple choice: ScienceQA, MMBench, SEED, A-OKVQA, MMStar, BLINK, MMVP, ..."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmvlm.evaluation.functional import choices, mmmu
from mmvlm.evaluation.functional.intervals import group_ratio
from mmvlm.evaluation.scorers.base import (
    MeanScorer,
    Record,
    Totals,
    Verdict,
    column,
    has_failed,
    percent,
    rows_by,
    unread_note,
    unread_rows,
    with_ones,
)
from mmvlm.registry import SCORERS


def _chosen(record: Record, rule: str) -> str | None:
    """Return the letter that a model found likeliest.

    None for an empty answer, and where a score is not a number.
    """
    if not record["text"]:
        return None
    scores = record["meta"].get("option_scores") or {}
    if rule not in scores:
        raise ValueError(
            f"record {record.get('uid')!r} holds no scores of its options for rule "
            f"'{rule}': its answer was made another way. Ask the model again, with "
            f"tools/test.py --rule {rule} and another --out."
        )
    return choices.likeliest(scores[rule])


def _guess(record: Record) -> float:
    """Return the probability that a guess among the options is right; 0 without any.

    It is 0 of a question that failed, which is wrong whatever its answer.
    """
    if has_failed(record):
        return 0.0
    options = choices.lettered(record["meta"].get("options") or ())
    return 1 / len(options) if options else 0.0


def _with_scores(answer: dict[str, Any], record: Record, rule: str) -> dict[str, Any]:
    """Return a right answer with what a rule that reads scores needs of it."""
    letters = choices.lettered(record["meta"].get("options") or ())
    if rule in choices.LIKELIHOODS and letters:
        scores = {letter: float(letter == answer["text"]) - 1 for letter in letters}
        answer["option_scores"] = {rule: scores}
    return answer


@SCORERS.register_module()
class ChoiceScorer(MeanScorer):
    """Accuracy of option letters under a named reading rule.

    ``reference`` is the letter; ``meta['options']`` maps letters to texts (a list is
    lettered from A). Rules: ``exact_letter`` (LLaVA), ``exact_matching`` (VLMEvalKit
    without a judge), ``scienceqa``, ``lmms_eval``, ``first_character``, ``xtuner``, and
    ``option_logits`` and ``ppl``, which take the letter of the highest score in
    ``meta['option_scores'][rule]``. ``strict`` is the bare letter, ``lenient`` exact
    matching.

    Args:
        rule (str | None): see above.
        groups (Sequence[str] | None): keys of ``meta`` to break the accuracy down by.
        average (str): what the headline averages. ``items``; ``groups``: a group
            (``meta['group']``: rotations of one question, pairs) counts as right if
            all its items are; ``categories``: the mean of category accuracies.
        weights (Mapping | None): category to weight of its accuracy, for
            ``average="categories"``; default equal. CV-Bench:
            ``dict(ADE20K=0.25, COCO=0.25, Omni3D=0.5)`` over ``by="source"``.
        by (str): key of ``meta`` of the categories to average.
    """

    rules = (*choices.READERS, *choices.LIKELIHOODS)
    group_keys = ("category", "l2-category")

    def __init__(
        self,
        rule: str | None = None,
        groups: Sequence[str] | None = None,
        *,
        average: str = "items",
        weights: Mapping[str, float] | None = None,
        by: str = "category",
    ) -> None:
        super().__init__(rule, groups)
        if average not in ("items", "groups", "categories"):
            raise ValueError(f"average={average!r}: use items, groups or categories.")
        self.average, self.weights, self.by = average, weights, by

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; ``undecided`` marks what exact matching leaves."""
        text, answer = record["text"], record["reference"]
        options = choices.lettered(record["meta"]["options"])
        matched = choices.read_exact_matching(text, options)
        prediction = self.read(record, options)
        return dict(
            score=float(prediction == answer and answer in options),
            strict=float(choices.read_exact(text, options) == answer),
            lenient=float(answer in (prediction, matched)),
            parsed=prediction in options,
            prediction=prediction,
            undecided=matched is None,
        )

    def read(self, record: Record, options: Mapping[str, str]) -> str | None:
        """Return the letter that the rule reads, or None."""
        if self.rule in choices.LIKELIHOODS:
            return _chosen(record, self.rule)
        return choices.READERS[self.rule](record["text"], options)

    def reference_answer(self, record: Record) -> dict[str, Any]:
        """See :meth:`Scorer.reference_answer`."""
        return _with_scores(super().reference_answer(record), record, self.rule)

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`MeanScorer.totals`."""
        if self.average == "groups":
            return self._grouped(records, verdicts)
        totals = super().totals(records, verdicts)
        if self.average == "categories":
            unread = unread_rows(records, verdicts, self.by)
            self._weigh(totals, records, column(verdicts, "score"), unread)
            totals.notes |= unread_note(unread, "categories")
        return totals

    def chance(
        self, records: Sequence[Record], verdicts: Sequence[Verdict]
    ) -> float | None:
        """Return the headline of a guess among the options of every question.

        None where groups count: guesses at the rotations of a question may be alike.
        """
        if self.average == "groups":
            return None
        return self._headline_of(records, verdicts, list(map(_guess, records)))

    def _grouped(
        self, records: Sequence[Record], verdicts: Sequence[Verdict]
    ) -> Totals:
        """Count groups; a group's first item in file order gives its categories."""
        members: dict[str, list[int]] = defaultdict(list)
        for index, record in enumerate(records):
            members[str(record["meta"].get("group", record["uid"]))].append(index)
        mains = [min(m, key=lambda i: records[i]["index"]) for m in members.values()]
        whole = [
            {
                key: min(verdicts[i][key] for i in rows)
                for key in ("score", "strict", "lenient")
            }
            for rows in members.values()
        ]
        totals = super().totals([records[i] for i in mains], whole)
        totals.metrics["items"] = percent(column(verdicts, "score"))
        totals.metrics["first"] = percent(column(verdicts, "score")[mains])
        return totals

    def _weigh(
        self,
        totals: Totals,
        records: Sequence[Record],
        scores: np.ndarray,
        unread: Sequence[int],
    ) -> None:
        """Replace the headline by a weighted mean of category accuracies."""
        rows = rows_by(records, self.by)
        unknown = set(range(len(records))).difference(unread, *rows.values())
        if unknown or not rows:
            rows["unknown"] = sorted(unknown)
        rows = {name: sorted({*own, *unread}) for name, own in rows.items()}
        weights = dict.fromkeys(rows, 1.0) if self.weights is None else self.weights
        if set(rows) != set(weights):
            raise ValueError(
                f"weights are for {sorted(weights)}, but the records' {self.by!r} are "
                f"{sorted(rows)}."
            )
        share = np.array([weights[name] for name in rows], dtype=np.float64)
        share /= share.sum()
        units = np.zeros((len(records), len(rows), 2))
        for place, (name, members) in enumerate(rows.items()):
            units[members, place] = with_ones(scores[members])
            totals.metrics[f"{self.by}/{name}"] = percent(scores[members])

        def statistic(sums: np.ndarray) -> np.ndarray:
            parts = sums.reshape(*sums.shape[:-1], len(share), 2)
            return 100 * group_ratio(parts[..., 0], parts[..., 1]) @ share

        totals.units = units.reshape(len(records), 2 * len(rows))
        totals.statistic = statistic
        totals.metrics["items"] = totals.metrics[self.headline]
        whole = statistic(totals.units.sum(axis=0))
        totals.metrics[self.headline] = float(np.nan_to_num(whole))


@SCORERS.register_module()
class ScienceQAScorer(ChoiceScorer):
    """ScienceQA: accuracy of all items, of those with images, and the breakdown.

    ``meta`` holds ``options`` and the item's ``subject``, ``hint``, ``image`` (name or
    None), ``grade`` and ``topic`` of ``problems.json``. An item counts as one with an
    image by the data, not by the recorded prompt.

    Paper: Lu et al., "Learn to Explain", NeurIPS 2022, arXiv 2209.09513.
    """

    rules = ("scienceqa", *(r for r in ChoiceScorer.rules if r != "scienceqa"))
    group_keys = ()

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`MeanScorer.totals`."""
        totals = super().totals(records, verdicts)
        rows: dict[str, list[float]] = defaultdict(list)
        for record, verdict in zip(records, verdicts, strict=True):
            if "subject" in record["meta"]:
                for name in choices.scienceqa_groups(record["meta"]):
                    rows[name].append(verdict["score"])
        means = {name: percent(np.array(found)) for name, found in sorted(rows.items())}
        totals.metrics["img_acc"] = means.get("has_image", 0.0)
        totals.metrics.update({f"{name}/acc": mean for name, mean in means.items()})
        return totals


@SCORERS.register_module()
class MMMUScorer(MeanScorer):
    """MMMU: options and open answers, by subject and domain.

    ``reference`` is a letter or an open answer (text or list of texts); ``meta`` holds
    ``options`` (empty for open questions) and ``category`` (the subject). Rules:
    ``fallback_wrong`` counts an answer without an option as wrong;
    ``fallback_random`` draws one from the record's uid, as the official script draws;
    ``option_logits`` and ``ppl`` see :class:`ChoiceScorer`, open answers are read.

    Paper: Yue et al., "MMMU", CVPR 2024, arXiv 2311.16502.
    """

    rules = ("fallback_wrong", "fallback_random", *choices.LIKELIHOODS)

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`; ``fallback`` marks answers without an option."""
        text, answer = record["text"], record["reference"]
        options = choices.lettered(record["meta"].get("options") or ())
        if not options:
            found = mmmu.read_open(text)
            right = mmmu.open_is_right(found, answer)
            return dict(
                score=float(right),
                parsed=bool(text.strip()),
                prediction=[str(value) for value in found],
                fallback=False,
            )
        if self.rule in choices.LIKELIHOODS:
            letter = _chosen(record, self.rule)
        else:
            letter = mmmu.read_option(text, options)
        drawn = letter
        if letter is None and self.rule == "fallback_random":
            drawn = mmmu.random_option(str(record["uid"]), options)
        answers = [answer] if isinstance(answer, str) else answer
        return dict(
            score=float(drawn in answers),
            strict=float(letter in answers),
            parsed=letter is not None,
            prediction=drawn,
            fallback=letter is None,
        )

    def reference_answer(self, record: Record) -> dict[str, Any]:
        """See :meth:`Scorer.reference_answer`."""
        return _with_scores(super().reference_answer(record), record, self.rule)

    def chance(
        self, records: Sequence[Record], verdicts: Sequence[Verdict]
    ) -> float | None:
        """Return the headline of guesses among options; open answers are dealt out."""
        scores = np.array([_guess(record) for record in records])
        free = [n for n, one in enumerate(records) if not one["meta"].get("options")]
        scores[free] = self._dealt([records[n] for n in free])
        return self._headline_of(records, verdicts, scores.tolist())

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`MeanScorer.totals`; domains are those of the known subjects."""
        totals = super().totals(records, verdicts)
        scores = column(verdicts, "score")
        domains: dict[str, list[int]] = defaultdict(list)
        for name, rows in rows_by(records, "category").items():
            if name in mmmu.DOMAIN_OF:
                domains[mmmu.DOMAIN_OF[name]].extend(rows)
        for name, rows in sorted(domains.items()):
            totals.metrics[f"domain/{name}"] = percent(scores[rows])
        missed = sum(bool(verdict.get("fallback")) for verdict in verdicts)
        totals.metrics["fallbacks"] = float(missed)
        return totals


@SCORERS.register_module()
class SEEDScorer(ChoiceScorer):
    """SEED-Bench: accuracy of all questions, of images and of videos.

    ``meta`` holds ``options``, ``category`` (the question type's name) and
    ``data_type`` (``image`` or ``video``).

    Paper: Li et al., "SEED-Bench", CVPR 2024, arXiv 2307.16125.
    """

    group_keys = ("category", "data_type")
