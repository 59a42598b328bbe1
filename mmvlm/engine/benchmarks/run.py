"""One benchmark of a run: its folder, its answers, its score."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch.utils.data import DataLoader

from mmvlm.datasets.index.arrays import Progress
from mmvlm.evaluation.judging import Judge, add_replies, own_replies, write_replies
from mmvlm.evaluation.scorers.judged import JudgedScorer
from mmvlm.evaluation.scoring import RESULTS, Scored, score, write_scored
from mmvlm.evaluation.store import (
    AnswerReader,
    Answers,
    AnswerWriter,
    keep_sorted,
    match,
    repair,
    write_benchmark,
    write_expected,
)
from mmvlm.registry import SCORERS

from .answering import Answer, answer_all
from .identity import check_identity
from .planner import BatchPolicy, batches, order, share
from .questions import BLIND, Question, Questions
from .ranks import Ranks

#: Questions that are asked once more: new tokens of all together, least and most.
_FLIP_TOKENS, _FLIP_ITEMS = 2048, (4, 32)


#: What a run and a blind one beside it must have in common, of their rows.
_OF_BOTH = ("rule", "limit", "only", "answers", "server")


def blind_folder(blind: str) -> str:
    """Return the folder of a blind run, below that of its benchmark."""
    return f"blind_{blind}"


def folder_of(out: str | os.PathLike, name: str, blind: str | None) -> Path:
    """Return the folder of a benchmark in a run."""
    return Path(out, name, *([blind_folder(blind)] if blind else []))


class BenchmarkRun:
    """Answer the questions of a benchmark into its folder, then score them.

    Args:
        out (Path): folder of the whole run.
        questions (Questions): of the benchmark.
        answer (Callable): gives records of questions that can be asked.
        policy (BatchPolicy | None): what a batch may hold; None: no model answers,
            and prompts are not counted.
        knows (Callable | None): whether ``answer`` has one to a question, by uid; it
            is not asked about others, which stay unanswered. None: to all.
        num_workers (int): processes that read images.
        system (str | None): config whose published scores stand beside the run's.
    """

    def __init__(
        self,
        out: Path,
        questions: Questions,
        answer: Answer,
        *,
        policy: BatchPolicy | None = None,
        knows: Callable[[str], bool] | None = None,
        num_workers: int = 0,
        system: str | None = None,
    ) -> None:
        self.questions, self.answer, self.policy = questions, answer, policy
        self.benchmark, self.system = questions.benchmark, system
        self.num_workers, self._knows = num_workers, knows
        self.folder = folder_of(out, self.benchmark.name, questions.blind)
        self.torn = 0
        self._reader = AnswerReader(self.folder)
        self._answered: set[str] = set()
        self._shares: dict[tuple[int, int], list[int]] = {}

    def prepare(self, facts: dict[str, Any], fresh: bool = False) -> None:
        """Make the folder ready; on rank 0, before any rank answers.

        Args:
            facts (dict): what answers depend on.
            fresh (bool): drop older answers.

        Raises:
            OtherIdentity: when the folder holds answers of another run.
            ValueError: when the model cannot be asked such questions.
        """
        self.questions.check()
        if fresh and self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.is_file():
                    path.unlink()
        self.folder.mkdir(parents=True, exist_ok=True)
        check_identity(self.folder, facts)
        self.torn = repair(self.folder)
        if self.torn:
            print_log(
                f"{self.folder}: {self.torn} lines were left unfinished by a run that "
                "was killed; their questions are answered again.",
                logger="current",
                level=logging.WARNING,
            )
        write_expected(self.folder, self.questions.uids)
        data = self.questions.dataset
        write_benchmark(
            *(self.folder, self.benchmark),
            image_root=os.path.abspath(data.image_root),
            data_root=os.path.abspath(data.data_root),
            system=self.system,
        )

    def share_of(self, ranks: Ranks, rank: int) -> list[int]:
        """Return the numbers of the questions that a rank answers."""
        key = rank, ranks.world_size
        if key not in self._shares:
            numbers = share(self.questions.images, *key)
            uids, knows = self.questions.uids, self._knows
            self._shares[key] = [n for n in numbers if not knows or knows(uids[n])]
        return self._shares[key]

    def is_done(self, ranks: Ranks, rank: int) -> bool:
        """Whether a rank has answered its share, as its file says."""
        self._refresh()
        uids = self.questions.uids
        return all(uids[one] in self._answered for one in self.share_of(ranks, rank))

    def _refresh(self) -> None:
        self._answered.update(one["uid"] for one in self._reader.new())

    def run_share(self, ranks: Ranks, stop: Callable[[], int] = lambda: 0) -> None:
        """Answer what is left of this rank's share.

        Args:
            ranks (Ranks): all that answer.
            stop (Callable): says after each batch whether to leave the rest.

        Raises:
            RankLost: when another rank is gone.
            OSError: naming the file, when the disk is full.
        """
        writer = AnswerWriter(self.folder, ranks.rank)
        # What cannot be asked is tried again: the image may be there by now.
        known = {
            one["uid"]
            for one in AnswerReader(self.folder).new()
            if one["finish"] != "error"
        }
        numbers = self.share_of(ranks, ranks.rank)
        left = [one for one in numbers if self.questions.uids[one] not in known]
        name = self.benchmark.name
        if len(left) < len(numbers):
            print_log(
                f"{name}: {len(numbers) - len(left)} of {len(numbers)} questions are "
                "answered already.",
                logger="current",
            )
        progress, done = Progress(f"answers to {name}", len(left), "questions"), 0
        try:
            for batch in self._batches(left):
                writer.append([record for _, record in answer_all(batch, self.answer)])
                ranks.check(lambda rank: self.is_done(ranks, rank))
                done += len(batch)
                progress.at(done, done)
                if stop():
                    break
        finally:
            writer.close()

    def _batches(self, left: Sequence[int]) -> Iterator[list[Question]]:
        questions = self.questions
        if self.policy is None:
            planned = [left[start : start + 64] for start in range(0, len(left), 64)]
        else:
            lengths = questions.lengths
            new = int(questions.gen["max_new_tokens"])
            ordered = order(left, questions.images, lengths)
            planned = list(batches(ordered, lengths, new, self.policy))
        yield from DataLoader(
            questions,
            batch_sampler=planned,
            num_workers=self.num_workers if len(planned) > 1 else 0,
            collate_fn=list,
            # The loader draws seeds from it, not from the generator of a training.
            generator=_generator(),
        )

    def answers(self) -> Answers:
        """Return the answers of all ranks, held against the questions."""
        records = list(AnswerReader(self.folder).new())
        return match(records, self.questions.uids, self.torn)

    def flips(self, alone: Answer) -> dict[str, int]:
        """Ask some questions once more and warn of answers that come out otherwise.

        They are up to 32, spread over the set, fewer where answers are long.

        Args:
            alone (Callable): answers each by itself.

        Returns:
            dict: ``asked`` and ``differ``, numbers of answers; empty where no
            question was answered.
        """
        known = {one["uid"]: one for one in self.answers().records}
        uids = self.questions.uids
        numbers = [
            number
            for number, uid in enumerate(uids)
            if uid in known and known[uid]["finish"] != "error"
        ]
        said = sum(known[uids[number]]["num_tokens"] or 0 for number in numbers)
        count = _FLIP_TOKENS * len(numbers) // max(1, said)
        count = min(max(count, _FLIP_ITEMS[0]), _FLIP_ITEMS[1])
        picked = numbers[:: max(1, -(-len(numbers) // count))]
        if not picked:
            return {}
        again = answer_all([self.questions[number] for number in picked], alone)
        differ = sum(
            record["text"] != known[record["uid"]]["text"] for _, record in again
        )
        print_log(
            f"{self.benchmark.name}: answers of half precision depend on the batch: "
            f"{differ} of {len(picked)} that were asked once more, each alone and with "
            "logits in float32, came out otherwise. --deterministic asks all so.",
            logger="current",
            level=logging.WARNING,
        )
        return dict(asked=len(picked), differ=differ)

    def finish(
        self,
        *,
        allow_partial: bool = False,
        judge: Judge | None = None,
        facts: dict[str, Any] | None = None,
        **options: Any,
    ) -> Scored:
        """Check that every question is answered, sort the answers, score them.

        Args:
            allow_partial (bool): score although answers are missing.
            judge (Judge | None): asked where a scorer needs one; None: replies that
                the folder holds count.
            facts (dict | None): see :func:`score`.
            **options: see :func:`score`.

        Raises:
            IncompleteAnswers: unless ``allow_partial``.
            JudgeFailed: when the judge leaves too much unsaid.
        """
        answers = self.answers()
        if not allow_partial:
            answers.check(self.benchmark.name)
        keep_sorted(self.folder, answers.records)
        scorer, facts = SCORERS.build(dict(self.benchmark.scorer)), dict(facts or {})
        is_open = any(one["reference"] is not None for one in answers.records)
        if judge is not None and isinstance(scorer, JudgedScorer) and is_open:
            replies = judge.replies(scorer, answers.records)
            write_replies(self.folder, judge.name, replies)
            facts |= judge.facts()
        replies, name = own_replies(self.folder)
        add_replies(answers.records, replies or {})
        scored = score(
            *(self.benchmark, answers),
            scorer=scorer,
            judge=name,
            facts=facts,
            **options,
        )
        write_scored(self.folder, scored)
        return scored


def _generator() -> Any:
    import torch

    return torch.Generator().manual_seed(0)


def with_blind(out: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the scores of blind runs in the same folder.

    ``needs_picture`` is the share of the right answers, in percent, that the blind
    run does not reach.
    """
    row = dict(row)
    for blind in BLIND:
        path = Path(out, row["benchmark"], blind_folder(blind), RESULTS)
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if any(found.get(key) != row.get(key) for key in _OF_BOTH):
                continue  # two rules, or other questions, do not compare
            row[f"blind_{blind}"] = found["score"]
            if row["score"] and found["score"] is not None:
                lost = 1 - found["score"] / row["score"]
                row["needs_picture"] = 100.0 * max(0.0, lost)
    return row
