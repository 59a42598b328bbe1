"""A scorer for tests: how many letters of an answer are those of the reference."""

from mmvlm.evaluation.scorers.base import MeanScorer
from mmvlm.registry import SCORERS


@SCORERS.register_module(force=True)
class LettersScorer(MeanScorer):
    def judge(self, record):
        text, reference = record["text"], record["reference"]
        return dict(
            score=sum(letter in reference for letter in text) / max(1, len(text)),
            strict=float(text == reference),
            parsed=bool(text),
            prediction=text,
        )
