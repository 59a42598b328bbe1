"""Walk through datasets with several processes and apply every rule."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmvlm.datasets.bad_samples import leaf_datasets

from .report import DataReport, Finding, MemberFacts
from .rule import Rule, all_rules
from .specimen import Examiner, Specimen

_CHUNK = 64
#: One line of a rule's keys: what is shared, by whom, and which sample it is.
_KEY = np.dtype([("key", "i8"), ("owner", "i8"), ("member", "i4"), ("position", "i8")])


@dataclass
class _Chunk:
    """What one stretch of samples gave; small, as it travels between processes."""

    member: int
    positions: np.ndarray
    findings: list[Finding] = field(default_factory=list)
    tallies: dict[str, Counter] = field(default_factory=dict)
    keys: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    images: int = 0


class DataChecker:
    """Check datasets, a mixture's members one by one.

    Args:
        dataset (Dataset): a reader or a mixture, built and, where ``bound``,
            bound to tokenizer and encoder.
        decode (bool): decode every image and run the pipeline.
        bound (bool): whether the pipeline knows tokenizer and encoder.
        training (bool): whether answers are trained.
        workers (int): processes; 0 works in this one.
        ignore (Iterable[str]): names of rules to leave out.
        limit (int | None): samples per dataset, drawn evenly; None takes all.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        decode: bool = True,
        bound: bool = False,
        training: bool = True,
        workers: int = 0,
        ignore: Iterable[str] = (),
        limit: int | None = None,
    ) -> None:
        self.rules = all_rules(ignore)
        self.members = list(leaf_datasets(dataset))
        self.shares = _shares(dataset)
        self.workers = workers
        options = dict(decode=decode, bound=bound, training=training)
        self._examiners = [Examiner(member, **options) for member in self.members]
        self._positions = [_spread(len(member), limit) for member in self.members]

    def __len__(self) -> int:
        """Return how many samples are looked at."""
        return sum(map(len, self._positions))

    def __call__(self, progress: Callable[[int], None] | None = None) -> DataReport:
        """Return what was found; after Ctrl-C what was found so far.

        Args:
            progress (Callable | None): called with the number of samples done.

        Raises:
            RuntimeError: when a worker process dies.
        """
        chunks: list[_Chunk] = []
        interrupted = False
        walk = self._in_processes() if self.workers > 0 else self._here()
        try:
            for chunk in walk:
                chunks.append(chunk)
                if progress is not None:
                    progress(len(chunk.positions))
        except KeyboardInterrupt:
            interrupted = True
            walk.close()
        chunks.sort(key=lambda c: (c.member, c.positions[0]))
        return self._report(chunks, interrupted)

    def _tasks(self) -> Iterator[tuple[int, np.ndarray]]:
        for member, positions in enumerate(self._positions):
            for start in range(0, len(positions), _CHUNK):
                yield member, positions[start : start + _CHUNK]

    def _here(self) -> Iterator[_Chunk]:
        for member, positions in self._tasks():
            yield self._check(member, positions)

    def _in_processes(self) -> Iterator[_Chunk]:
        """Yield chunks as they are done; few are in flight, so memory stays flat."""
        global _CHECKER
        _CHECKER = self  # forked workers see it; nothing is pickled
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(self.workers, context, initializer=_start_worker)
        tasks, running = self._tasks(), set()
        try:
            while True:
                while len(running) < 4 * self.workers:
                    task = next(tasks, None)
                    if task is None:
                        break
                    running.add(pool.submit(_work, *task))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process died (killed for memory, or a library crashed); "
                "workers=0 shows at which sample."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            _CHECKER = None

    def _check(self, member: int, positions: np.ndarray) -> _Chunk:
        chunk = _Chunk(member, positions)
        keys: dict[str, list] = defaultdict(list)
        for position in positions.tolist():
            specimen = self._examiners[member](position)
            self._apply(specimen, member, chunk, keys)
        chunk.keys = {name: np.array(rows, _KEY) for name, rows in keys.items()}
        return chunk

    def _apply(
        self, specimen: Specimen, member: int, chunk: _Chunk, keys: dict[str, list]
    ) -> None:
        owner = None
        if specimen.error is not None and specimen.left_out is None:
            owner = self._owner(specimen.error)
            if owner is not None:
                chunk.findings.append(_finding(owner, specimen, specimen.error))
        for rule in self.rules:
            if rule is owner:
                continue  # what it would find is why the reader failed
            for words in rule.check(specimen):
                chunk.findings.append(_finding(rule, specimen, words))
                specimen.blamed |= rule.level == "problem"
            names = Counter(rule.tally(specimen))
            if names:
                chunk.tallies.setdefault(rule.name, Counter()).update(names)
            for key, holder in rule.keys(specimen):
                keys[rule.name].append((key, holder, member, specimen.position))
        chunk.images += len(specimen.images)
        if specimen.num_tokens is not None:
            chunk.tokens.append(specimen.num_tokens)
            chunk.trained.append(specimen.num_trained)
        if specimen.conversation is not None:
            words = (turn.text.split() for turn in specimen.conversation.turns)
            chunk.words.append(sum(map(len, words)))

    def _owner(self, error: str) -> Rule | None:
        """Return the rule that an error of the reader belongs to."""
        last = None
        for rule in self.rules:
            if rule.claims == "":
                last = rule
            elif rule.takes(error):
                return rule
        return last

    def _report(self, chunks: list[_Chunk], interrupted: bool) -> DataReport:
        findings = [finding for chunk in chunks for finding in chunk.findings]
        places = {member.name: place for place, member in enumerate(self.members)}
        tallies: dict[str, Counter] = {}
        for chunk in chunks:
            for name, counts in chunk.tallies.items():
                tallies.setdefault(name, Counter()).update(counts)
        for rule in self.rules:
            tables = [
                chunk.keys[rule.name] for chunk in chunks if rule.name in chunk.keys
            ]
            if tables:
                findings += self._shared(rule, np.concatenate(tables))
        findings.sort(key=lambda f: (places[f.dataset], f.index))
        members = [self._facts(number, chunks) for number in range(len(self.members))]
        return DataReport(
            members=members,
            levels={rule.name: rule.level for rule in self.rules},
            findings=findings,
            tallies=tallies,
            interrupted=interrupted,
            num_planned=len(self),
        )

    def _shared(self, rule: Rule, table: np.ndarray) -> Iterator[Finding]:
        """Yield a finding for every sample that is not its key's first owner."""
        order = np.argsort(table["key"], kind="stable")  # first come first
        table = table[order]
        starts = np.flatnonzero(np.append(True, table["key"][1:] != table["key"][:-1]))
        ends = np.append(starts[1:], len(table))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            first = table[start]
            reported = {int(first["owner"])}
            for row in table[start + 1 : end]:
                if int(row["owner"]) in reported:
                    continue
                reported.add(int(row["owner"]))
                yield self._shared_finding(rule, first, row)

    def _shared_finding(self, rule: Rule, first: Any, row: Any) -> Finding:
        one, other = (
            self.members[line["member"]].facts_at(int(line["position"]))
            for line in (first, row)
        )
        return Finding(
            rule=rule.name,
            level=rule.level,
            dataset=other["dataset"],
            index=other["index"],
            id=other["sample_id"],
            path=other["path"],
            reason=(
                f"{rule.shared} of sample {one['index']} of '{one['dataset']}' (id "
                f"'{one['sample_id']}', {one['path']})."
            ),
        )

    def _facts(self, number: int, chunks: Sequence[_Chunk]) -> MemberFacts:
        own = [chunk for chunk in chunks if chunk.member == number]
        member = self.members[number]
        return MemberFacts(
            name=member.name,
            ann_file=member.ann_file,
            num_samples=len(member),
            num_seen=sum(len(chunk.positions) for chunk in own),
            num_images=sum(chunk.images for chunk in own),
            per_epoch=self.shares[number],
            max_length=self._examiners[number].limits[0],
            tokens=[n for chunk in own for n in chunk.tokens],
            trained=[n for chunk in own for n in chunk.trained],
            words=[n for chunk in own for n in chunk.words],
        )


_CHECKER: DataChecker | None = None


def _start_worker() -> None:
    """Leave Ctrl-C to the main process and take one thread."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def _work(member: int, positions: np.ndarray) -> _Chunk:
    assert _CHECKER is not None, "workers are forked while the checker is set"
    return _CHECKER._check(member, positions)


def _finding(rule: Rule, specimen: Specimen, words: str) -> Finding:
    return Finding(
        rule=rule.name,
        level=rule.level,
        dataset=specimen.dataset,
        index=specimen.index,
        id=specimen.id,
        path=specimen.path,
        reason=words,
    )


def _shares(dataset: Any, times: float = 1.0) -> list[float]:
    """Return the samples per epoch of every reader below a mixture."""
    members = getattr(dataset, "datasets", None)
    if members is None:
        return [times * len(dataset)]
    shares = []
    for member, count in zip(members, dataset.counts, strict=True):
        shares += _shares(member, times * count / max(1, len(member)))
    return shares


def _spread(size: int, limit: int | None) -> np.ndarray:
    """Return up to ``limit`` positions, evenly spread."""
    if limit is None or limit >= size:
        return np.arange(size)
    return np.unique(np.linspace(0, size - 1, max(1, limit)).astype(np.int64))
