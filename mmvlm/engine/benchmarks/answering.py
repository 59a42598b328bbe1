"""Where answers come from: a model, the references, a file, or nothing."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from mmengine.logging import print_log

from mmvlm.datasets.collate import collate_flat
from mmvlm.engine.benchmarks.float32_head import Float32Head
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.functional.choices import LIKELIHOODS
from mmvlm.evaluation.records import plain, region_values
from mmvlm.evaluation.scorers.base import Scorer
from mmvlm.evaluation.store import match, read_records
from mmvlm.models.utils.feature_cache import FeatureCache
from mmvlm.registry import SCORERS

from ..optimizers.optim_wrapper import autocast
from ..runner.checkpoint import unwrap
from .planner import BatchPolicy, batches
from .questions import Question, Questions

#: What a model's reply ended with, in the words of answer records.
_FINISH = dict(stop_id="stop", stop_string="stop", length="length")
#: The setting that has options scored, in place of a reply generated.
RULE = "rule"
#: Answers questions: takes a batch that can be asked, gives their records.
Answer = Callable[[Sequence[Question]], list[dict[str, Any]]]


def settings_of(cfg: Any, benchmark: Benchmark) -> dict[str, Any]:
    """Return the decoding settings of a benchmark over those of a model.

    Args:
        cfg (mmengine.Config | None): of the model; None: it has none of its own.
        benchmark (Benchmark): a rule of its scorer that reads how likely options are
            is among its settings.
    """
    own = {} if cfg is None else dict(cfg.model.get("generation") or {})
    settings = {"max_new_tokens": 128, "do_sample": False, **own}
    rule = benchmark.scorer.get("rule")
    return (
        settings | benchmark.generation | ({RULE: rule} if rule in LIKELIHOODS else {})
    )


def answer_all(
    questions: Sequence[Question], answer: Answer
) -> list[tuple[Question, dict[str, Any]]]:
    """Return questions with their records; those that cannot be asked have one."""
    ready = [one for one in questions if one.record["finish"] != "error"]
    found = dict(zip((one.position for one in ready), answer(ready), strict=True))
    return [(one, found.get(one.position, one.record)) for one in questions]


class ModelAnswers:
    """Let a model answer, in batches that fit into the memory.

    After a batch that does not fit, all that come are half as large.

    Args:
        model (VisionLanguageModel): bound to a processor; runs in evaluation mode.
        gen (dict): decoding settings.
        policy (BatchPolicy): what a batch may hold.
        dtype (torch.dtype | None): autocast.
        cache (FeatureCache | None): keeps what was made of images, also for other
            benchmarks of the same weights and dtype.
        deterministic (bool): every question by itself, whatever else is asked: nothing
            is shared or kept, so that shapes, and with them roundings, depend on it
            alone; logits of half precision are computed in float32.
    """

    def __init__(
        self,
        model: Any,
        gen: dict[str, Any],
        policy: BatchPolicy,
        dtype: torch.dtype | None = None,
        cache: FeatureCache | None = None,
        *,
        deterministic: bool = False,
    ) -> None:
        self.cache = None if deterministic else cache
        self.model, self.gen, self.dtype = unwrap(model), gen, dtype
        # Rows of a batch draw from one generator; alone, each draws its own.
        draws = gen.get("do_sample") or (gen.get("num_beams") or 1) > 1
        alone = deterministic or draws
        self.policy = BatchPolicy(policy.tokens, 1) if alone else policy
        self._shares = not alone and self._can_share()
        self._head: Any = nullcontext()
        if deterministic and is_half(self.model, dtype):
            self._head = Float32Head(self.model.language_model.model)

    def _can_share(self) -> bool:
        """Whether questions about one image may share what is computed for it."""
        model = self.model.language_model
        config = getattr(getattr(model, "model", None), "config", None)
        return not (
            getattr(model, "adapters", None)
            or getattr(model.model, "_is_stateful", False)
            or getattr(config, "is_encoder_decoder", True)
        )

    def __call__(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """Return the records of questions, in their order.

        Raises:
            RuntimeError: when a single question is too much for the memory.
        """
        lengths = [_num_tokens(one) for one in questions]
        new = int(self.gen["max_new_tokens"])
        records: list[dict[str, Any]] = []
        while len(records) < len(questions):
            rest = range(len(records), len(questions))
            rows = next(batches(rest, lengths, new, self.policy))
            try:
                records += self._batch([questions[row] for row in rows])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                longest = max(lengths[row] for row in rows)
                self._shrink(len(rows), longest, new, error)
            else:
                continue
            # Outside of the handler, whose traceback holds the batch.
            if self.cache is not None:
                self.cache.clear()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return records

    def _shrink(self, rows: int, longest: int, new: int, error: Exception) -> None:
        if rows == 1:
            raise RuntimeError(
                f"one prompt of {longest} tokens with {new} new ones does not fit "
                "into the memory. Use a smaller model or dtype, or fewer views."
            ) from error
        size = min(self.policy.tokens, rows * (longest + new))
        self.policy = BatchPolicy(size, rows).halved()
        print_log(
            f"out of memory with {rows} prompts of up to {longest} tokens: from here "
            f"on batches hold at most {self.policy.rows} prompts and "
            f"{self.policy.tokens} tokens.",
            logger="current",
            level=logging.WARNING,
        )

    @torch.no_grad()
    def _batch(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        options = dict(self.gen)
        if self._shares:
            options["share_prefix"] = True
        if len(questions) == 1:
            torch.manual_seed(zlib.crc32(questions[0].record["uid"].encode()))
        with self._loaded(questions) as data:
            samples = self.model.predict(**data, **options)
        return [
            _answered(one, sample)
            for one, sample in zip(questions, samples, strict=True)
        ]

    @contextmanager
    def _loaded(self, questions: Sequence[Question]) -> Iterator[dict[str, Any]]:
        """Give the batch of questions, to be run in the dtype and with the cache."""
        data = collate_flat([one.item for one in questions])
        data = self.model.data_preprocessor(data, False)
        self.model.feature_cache = self.cache
        try:
            with autocast(self.dtype), self._head:
                yield data
        finally:
            self.model.feature_cache = None


def is_half(model: Any, dtype: torch.dtype | None) -> bool:
    """Whether a model answers in half precision.

    Args:
        model (VisionLanguageModel): with its weights.
        dtype (torch.dtype | None): autocast.
    """
    weights = {one.dtype for one in model.parameters()}
    return bool({dtype, *weights} & {torch.bfloat16, torch.float16})


def _num_tokens(question: Question) -> int:
    return sum(map(len, question.item["inputs"]["streams"].values()))


def _answered(question: Question, sample: Any) -> dict[str, Any]:
    record = dict(question.record, meta=dict(question.record["meta"]))
    record.update(
        text=sample.pred_text,
        finish=_FINISH[sample.finish],
        num_tokens=len(sample.pred_ids),
    )
    if sample.get("pred_regions"):
        record["meta"]["pred_regions"] = region_values(sample.pred_regions)
    if sample.get("problems"):
        record["meta"]["problems"] = list(sample.problems)
    return plain(record, record["uid"])


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a device, or the machine itself, had no memory left."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


# Without a model -----------------------------------------------------------------


def reference_answers(scorer: Scorer) -> Answer:
    """Return what answers with the references: what the benchmark can reach.

    Args:
        scorer (Scorer): of the benchmark; knows how its rule wants them written.
    """

    def answer(questions: Sequence[Question]) -> list[dict[str, Any]]:
        return [_reference(one.record, scorer) for one in questions]

    return answer


def _reference(record: dict[str, Any], scorer: Scorer) -> dict[str, Any]:
    record = dict(record, meta=dict(record["meta"]), finish="stop")
    if record["reference"] is None:
        return record  # a server's secret
    found = scorer.reference_answer(record)
    record["text"] = found.pop("text")
    record["meta"].update(found)
    return plain(record, record["uid"])


def empty_answers(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Answer nothing to every question."""
    return [dict(one.record, text="", finish="stop") for one in questions]


class FileAnswers:
    """Answer with what a file holds; what it does not hold stays unanswered.

    Args:
        path (str | PathLike): JSON lines with ``uid`` and ``text``, of one or several
            benchmarks; where regions or likelihoods of options are scored, whole
            answer records, whose ``meta`` has them.
        questions (Questions): of a benchmark.

    Raises:
        IncompleteAnswers: for two texts of one question, or one of no question.
        ValueError: naming the file, for a damaged one, or for a text alone where
            regions are scored.
    """

    def __init__(self, path: str | os.PathLike, questions: Questions) -> None:
        name = questions.benchmark.name
        rows = [one for one in read_records(path) if one["uid"].startswith(f"{name}/")]
        found = replace(match(rows, questions.uids), missing=[])
        if questions.is_part:
            found.foreign = []
        found.check(name)
        # An answer record without regions says none; a text alone says nothing of them.
        texts = [row["uid"] for row in found.records if row.get("meta") is None]
        scorer = SCORERS.build(dict(questions.benchmark.scorer))
        if texts and scorer.needs_regions:
            raise ValueError(
                f"'{path}': the answer to {texts[0]!r} is a text alone, but the scorer "
                f"of {name} takes boxes or masks. Give the answer records of a run, "
                "whose 'meta' has 'pred_regions', or choose another --rule."
            )
        self._rows = {row["uid"]: row for row in found.records}

    def knows(self, uid: str) -> bool:
        """Whether the file answers a question."""
        return uid in self._rows

    def __call__(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """Return the records of questions that are known, in their order."""
        found = [(one.record, self._rows[one.record["uid"]]) for one in questions]
        return [
            dict(
                record,
                text=row["text"],
                finish=row.get("finish") or "stop",
                meta=record["meta"] | _said(row),
            )
            for record, row in found
        ]


def _said(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a record's ``meta`` has of the answer, not of the question."""
    meta = row.get("meta") or {}
    return {key: meta[key] for key in ("pred_regions", "option_scores") if key in meta}
