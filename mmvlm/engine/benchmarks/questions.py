"""The questions of a benchmark as a model reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mmvlm.config.signatures import accepted_keywords
from mmvlm.datasets.bad_samples import DATA_ERRORS, reason_of
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.records import question_record, uid_of
from mmvlm.registry import DATASETS
from mmvlm.structures import Conversation, Image, Text, Turn

#: Ways to ask without the right image.
BLIND = ("shuffle", "text")
#: Where the data of benchmarks lie unless the user says so.
DATA_ROOT = "data"


@dataclass
class Question:
    """A question that is ready to be answered.

    Args:
        position (int): in the set.
        record (dict): answer record without an answer.
        item (dict | None): as ``collate_flat`` takes it; None for one that fails.
    """

    position: int
    record: dict[str, Any]
    item: dict[str, Any] | None = None


class Questions(Dataset):
    """The questions of a benchmark, each with its record.

    No question is left out: one that cannot be read has a record whose ``finish`` is
    ``error``, and the reason in ``meta["error"]``.

    Args:
        benchmark (Benchmark): whose questions they are.
        processor (VLMProcessor | None): of the model; None: records without prompts.
        pipeline (Sequence): transforms of questions for who needs no processor.
        gen (dict | None): decoding settings, as records give them.
        data_root (str | None): stands in for ``data``.
        limit (int | None): only the first questions.
        only (Sequence[str]): only questions with these uids.
        blind (str | None): ``shuffle``: every question gets the image of another
            one; ``text``: none.
        stop_on_error (bool): raise for what cannot be read.

    Raises:
        FileNotFoundError: for files that are missing.
        ValueError: for another ``blind``, or uids that are none.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        processor: Any = None,
        *,
        pipeline: Sequence[Any] = (),
        gen: dict[str, Any] | None = None,
        data_root: str | None = None,
        limit: int | None = None,
        only: Sequence[str] = (),
        blind: str | None = None,
        stop_on_error: bool = False,
    ) -> None:
        if blind not in (None, *BLIND):
            raise ValueError(f"blind={blind!r}: expected one of {list(BLIND)}.")
        self.benchmark = benchmark = with_data_root(benchmark, data_root)
        self.processor = processor
        self.gen, self.blind, self.stop_on_error = gen or {}, blind, stop_on_error
        config = dict(benchmark.dataset, name=benchmark.name, indices=limit)
        config["data_root"] = placed(config.get("data_root", ""), data_root)
        if blind == "shuffle":
            config["shuffle_images"] = True
        if "evaluate" in accepted_keywords(DATASETS.get(config["type"])).names:
            config.setdefault("evaluate", True)
        #: Whether these are only some questions of the set.
        self.is_part = limit is not None or bool(only)
        self._is_prepared = processor is not None or bool(pipeline)
        if pipeline:
            config["pipeline"] = list(pipeline)
        elif processor is not None:
            config["pipeline"] = processor.pipeline("generate").transforms
        self.dataset = DATASETS.build(config)
        if processor is not None:
            self.dataset.bind(processor)
        self.positions = range(len(self.dataset))
        if only:
            known = {uid: position for position, uid in enumerate(self.uids)}
            unknown = [uid for uid in only if uid not in known]
            if unknown:
                raise ValueError(
                    f"{benchmark.name}: no question has the uid {unknown[0]!r}; the "
                    f"first is {next(iter(known))!r}."
                )
            self.positions = [known[uid] for uid in only]
            del self.facts, self.uids  # they were of all questions

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def facts(self) -> list[dict[str, Any]]:
        """``index``, ``sample_id`` and ``path`` of every question."""
        return [self.dataset.facts_at(position) for position in self.positions]

    @cached_property
    def uids(self) -> list[str]:
        """Names of the questions, in order."""
        return [
            uid_of(self.benchmark.name, one["index"], one["sample_id"])
            for one in self.facts
        ]

    @cached_property
    def images(self) -> list[str]:
        """What each question shows, or its own name."""
        # Of embedded images the path is that of the file that all lie in.
        shared = self.dataset.ann_file
        return [
            str(n) if one["path"] == shared else one["path"]
            for n, one in enumerate(self.facts)
        ]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each prompt, (questions,) int32; 1 for one that fails."""
        return self.dataset.token_lengths_at(0)[list(self.positions)]

    def check(self) -> None:
        """Ask the first questions to see that this model can be asked at all.

        Raises:
            ValueError: when none of the first three can be.
        """
        first = [self[number].record for number in range(min(3, len(self)))]
        if len(first) == 3 and all(one["finish"] == "error" for one in first):
            raise ValueError(
                f"{self.benchmark.name}: none of the first questions can be asked of "
                f"this model: {first[0]['meta']['error']} Mend that, or leave the "
                "benchmark out."
            )

    def __getitem__(self, number: int) -> Question:
        """Return a question with all that the model needs.

        Raises:
            ValueError: naming it, when it cannot be read and that is to stop the run.
        """
        facts = self.facts[number]
        talk = None
        try:
            item = self.dataset.item_at(self.positions[number])
            talk = item["conversation"]
            if self.blind == "text":
                talk = item["conversation"] = without_inputs(talk)
            question = Question(number, self._record(facts, talk))
            if not self._is_prepared:
                return question
            question.item = self.dataset.pipeline(item)
        except Exception as error:
            if not isinstance(error, DATA_ERRORS) and not hasattr(error, "counted_as"):
                raise
            if self.stop_on_error:
                uid = uid_of(self.benchmark.name, facts["index"], facts["sample_id"])
                raise ValueError(
                    f"question '{uid}' cannot be asked: {error}"
                ) from error
            return Question(number, self._failed(facts, talk, error))
        if self.processor is not None:
            shown = question.item["data_samples"].conversation
            question.record["prompt"] = self._prompt(shown)
        return question

    def _record(self, facts: dict, talk: Conversation | None) -> dict[str, Any]:
        index, sample_id = facts["index"], facts["sample_id"]
        return question_record(self.benchmark, index, sample_id, talk, self.gen)

    def _failed(
        self, facts: dict, talk: Conversation | None, error: Exception
    ) -> dict[str, Any]:
        record = self._record(facts, talk)
        record["finish"] = "error"
        record["meta"]["error"] = reason_of(error)
        return record

    def _prompt(self, talk: Conversation) -> str:
        """Return the prompt as the template renders it, images as ``<image>``."""
        turns = [*talk.turns]
        if turns[-1].role == "assistant":
            turns.pop()
        pieces = self.processor.template.render(
            replace(talk, turns=turns), add_generation_prompt=True
        )
        return "".join(piece.shown() for piece in pieces)


def placed(folder: str, data_root: str | None) -> str:
    """Return where a benchmark's data lie when ``data`` is another folder."""
    if data_root is None or os.path.isabs(folder):
        return folder
    inside = os.path.relpath(folder or ".", DATA_ROOT)
    if inside.startswith(os.pardir):
        inside = folder
    return os.path.normpath(os.path.join(data_root, inside))


def with_data_root(benchmark: Benchmark, data_root: str | None) -> Benchmark:
    """Return a benchmark whose files beside its data lie in another folder as well.

    These are the texts of its scorer and its submission that begin with ``data/``.

    Raises:
        FileNotFoundError: for one that is missing.
    """
    changed = {}
    for name in ("scorer", "submission"):
        options = dict(getattr(benchmark, name) or {})
        files = [k for k, v in options.items() if _is_file_of_data(v)]
        for key in files:
            options[key] = os.path.abspath(placed(options[key], data_root))
            if not os.path.isfile(options[key]):
                raise FileNotFoundError(
                    f"{benchmark.name}: '{options[key]}' ({name}.{key}) is missing. "
                    "Fetch it, or name the folder that holds it with --data-root."
                )
        if files:
            changed[name] = options
    return replace(benchmark, **changed)


def _is_file_of_data(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(f"{DATA_ROOT}/")


def without_inputs(talk: Conversation) -> Conversation:
    """Return a conversation without its images and other inputs."""
    turns = []
    for turn in talk.turns:
        parts = [p for p in turn.parts if isinstance(p, Text)]
        shown = [p for p in turn.parts if isinstance(p, Image)]
        if shown and parts:
            parts[0] = parts[0].lstrip("\n")
        turns.append(Turn(turn.role, tuple(parts), turn.supervised))
    return replace(talk, turns=turns, images=[], media={})
