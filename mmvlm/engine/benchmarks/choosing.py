"""Let a model choose among the options of a question, in place of a reply."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log

from mmvlm.evaluation.functional.choices import lettered, likeliest

from ..runner.checkpoint import unwrap
from .answering import RULE, ModelAnswers, is_half, is_out_of_memory
from .planner import BatchPolicy
from .questions import Question, Questions
from .run import BenchmarkRun


def model_answers(
    model: Any, questions: Questions, *args: Any, **options: Any
) -> ModelAnswers:
    """Return what lets a model answer the questions of a benchmark.

    Args:
        model (VisionLanguageModel): see :class:`ModelAnswers`.
        questions (Questions): their settings say whether options are scored.
        *args: see :class:`ModelAnswers`, from ``policy`` on.
        **options: likewise.
    """
    gen = dict(questions.gen)
    if (rule := gen.pop(RULE, None)) is None:
        return ModelAnswers(model, gen, *args, **options)
    return ChoiceAnswers(
        *(model, gen, *args), rule=rule, processor=questions.processor, **options
    )


def flips_of(
    run: BenchmarkRun,
    model: Any,
    policy: BatchPolicy,
    dtype: torch.dtype | None,
    *,
    deterministic: bool,
) -> dict[str, Any]:
    """Return what a row says of answers that depend on their batch, where they may.

    Args:
        run (BenchmarkRun): whose questions a model has answered.
        model (VisionLanguageModel): that answered them; see :class:`ModelAnswers`, as
            all others. What the answers kept of images is dropped.
        policy (BatchPolicy): what a batch may hold.
        dtype (torch.dtype | None): autocast.
        deterministic (bool): whether every question was asked by itself.

    Returns:
        dict: ``flips``, see :meth:`BenchmarkRun.flips`; empty in float32, and where
        the memory does not suffice to ask again.
    """
    if deterministic or not is_half(unwrap(model), dtype):
        return {}
    if run.answer.cache is not None:
        run.answer.cache.clear()
    alone = model_answers(model, run.questions, policy, dtype, deterministic=True)
    try:
        flips = run.flips(alone)
    except RuntimeError as error:
        if not any(map(is_out_of_memory, (error, error.__cause__))):
            raise
        print_log(
            f"{run.benchmark.name}: answers of half precision depend on the batch; how "
            "many do is not known, as logits in float32 do not fit into the memory "
            "beside the model.",
            logger="current",
            level=logging.WARNING,
        )
        return {}
    return dict(flips=flips) if flips else {}


class ChoiceAnswers(ModelAnswers):
    """Answer with the letter of the option that the model finds likeliest.

    ``option_logits`` scores the letters, by the log probability of their tokens;
    ``ppl`` the texts of the options, by the mean over their tokens (the logarithm of
    one over the perplexity), as the paper of SEED-Bench ranks them. Scores are kept in
    ``meta["option_scores"]``. Questions without options are answered in words; where a
    score is not a number, the answer is empty and ``meta["problems"]`` says why.

    Paper: Li et al., "SEED-Bench", CVPR 2024, arXiv 2307.16125.

    Args:
        *args: see :class:`ModelAnswers`.
        rule (str): one of the two.
        processor (VLMProcessor): says how replies are written in tokens.
        **options: see :class:`ModelAnswers`.
    """

    #: Decimals of scores: what a batch's shape changes in float32 lies behind them.
    decimals = 4

    def __init__(self, *args: Any, rule: str, processor: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rule, self._processor = rule, processor
        self._ids: dict[str, list[int]] = {}

    @torch.no_grad()
    def _batch(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        closed = [one for one in questions if one.record["meta"].get("options")]
        others = [one for one in questions if not one.record["meta"].get("options")]
        found: dict[int, dict[str, Any]] = {}
        for some, answer in ((closed, self._choices), (others, super()._batch)):
            if some:
                records = answer(some)
                found |= zip((one.position for one in some), records, strict=True)
        return [found[one.position] for one in questions]

    def _choices(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        options = [lettered(one.record["meta"]["options"]) for one in questions]
        is_ppl = self.rule == "ppl"
        replies = [
            [self._tokens(text if is_ppl else letter) for letter, text in own.items()]
            for own in options
        ]
        with self._loaded(questions) as data:
            logs = self.model.score_replies(
                data["inputs"], replies, share_prefix=self._shares
            )
        records = []
        for question, own, rows in zip(questions, options, logs, strict=True):
            values = (sum(one) / (len(one) if is_ppl else 1) for one in rows)
            rounded = (round(value, self.decimals) for value in values)
            scores = dict(zip(own, rounded, strict=True))
            meta, text = dict(question.record["meta"]), likeliest(scores)
            if text is None:  # JSON has no such numbers
                text, meta["problems"] = "", ["scores of options are not numbers"]
            else:
                meta["option_scores"] = {self.rule: scores}
            records.append(dict(question.record, meta=meta, text=text, finish="stop"))
        return records

    def _tokens(self, reply: str) -> list[int]:
        if reply not in self._ids:
            (self._ids[reply],) = self._processor.reply_ids([reply])
        return self._ids[reply]
