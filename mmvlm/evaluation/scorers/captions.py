"""Captions of images and regions: BLEU, ROUGE-L, CIDEr and, with Java, METEOR."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.evaluation.functional import captions, ptb
from mmvlm.evaluation.java_captions import find_java, meteor_scores, tokenize_java
from mmvlm.evaluation.scorers.base import (
    Record,
    Scorer,
    Totals,
    Verdict,
    clusters_of,
    mean_percent,
    rows_by,
    with_ones,
)
from mmvlm.registry import SCORERS

_SPICE = "not computed: needs the Stanford CoreNLP models, which are not shipped"


@SCORERS.register_module()
class CaptionScorer(Scorer):
    """Captions against several references, x100 as papers print them.

    ``reference`` is a list of captions. Document frequencies of CIDEr are those of the
    scored references and stay fixed in resampling; each value of ``groups`` is scored
    as a set of its own, as NoCaps scores its domains. CIDEr of one item needs the
    set: an item's ``score`` is its ROUGE-L.

    Rules: ``ptb`` tokenizes with the Stanford tokenizer where Java and pycocoevalcap
    are installed and with its Python twin elsewhere (the note says which);
    ``ptb_java`` and ``ptb_python`` want one of them. METEOR comes with Java.

    Args:
        rule (str | None): see above.
        groups (Sequence[str]): keys of ``meta`` to score apart.
    """

    rules = ("ptb", "ptb_java", "ptb_python")
    headline = "cider"

    def __init__(
        self, rule: str | None = None, groups: Sequence[str] = ("domain",)
    ) -> None:
        super().__init__(rule)
        self.groups = tuple(groups)

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`."""
        references = [ptb.tokenize(text) for text in _references(record)]
        prediction = ptb.tokenize(record["text"])
        score = captions.rouge_l(prediction, references)
        return dict(score=score, parsed=bool(prediction), prediction=prediction)

    def totals(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> Totals:
        """See :meth:`Scorer.totals`; a failed record has the empty caption."""
        texts = [
            "" if verdict["failed"] else record["text"]
            for record, verdict in zip(records, verdicts, strict=True)
        ]
        references = [_references(record) for record in records]
        missing = (
            find_java() if self.rule != "ptb_python" else "ptb_python uses no Java"
        )
        use_java = not isinstance(missing, str)
        if self.rule == "ptb_java" and not use_java:
            raise RuntimeError(f"CaptionScorer(rule='ptb_java'): {missing}")
        tokenize = tokenize_java if use_java else ptb.tokenize_all
        flat = tokenize([*texts, *(text for group in references for text in group)])
        hypotheses, rest = flat[: len(texts)], iter(flat[len(texts) :])
        tokens = [[next(rest) for _ in group] for group in references]
        metrics, cider = self._scores(hypotheses, tokens)
        for key in self.groups:
            for name, rows in rows_by(records, key).items():
                found, _ = self._scores(
                    [hypotheses[i] for i in rows], [tokens[i] for i in rows]
                )
                metrics.update({f"{name}/{m}": value for m, value in found.items()})
        notes = dict(
            tokenizer="Stanford PTB (Java)" if use_java else "PTB in Python",
            spice=_SPICE,
        )
        if not use_java:
            notes["meteor"] = f"not computed: {missing}"
        else:
            metrics["meteor"] = 100 * meteor_scores(hypotheses, tokens)[0]
        return Totals(
            metrics, with_ones(cider), clusters_of(records), mean_percent, notes
        )

    @staticmethod
    def _scores(
        hypotheses: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics of a set, and CIDEr of each image."""
        pairs = list(zip(hypotheses, references, strict=True))
        frequencies = captions.CiderFrequencies(references)
        cider = np.array([frequencies.score(*pair) for pair in pairs])
        rouge = np.array([captions.rouge_l(*pair) for pair in pairs])
        counts = np.array([captions.bleu_counts(*pair) for pair in pairs])
        bleu = captions.bleu_of_counts(counts.sum(axis=0))
        metrics = {f"bleu{n}": 100 * float(b) for n, b in enumerate(bleu, 1)}
        metrics["rougeL"] = 100 * float(rouge.mean())
        metrics["cider"] = 100 * float(cider.mean())
        return metrics, cider


def _references(record: Record) -> list[str]:
    """Return the captions of a record; what could not be read has an empty one."""
    found = record["reference"]
    return [found] if isinstance(found, str) else list(found) or [""]
