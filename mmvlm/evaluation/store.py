"""Files of answers: appended line by line, so that a killed run loses none."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmvlm.utils.files import write_atomic, writing

from .benchmark import Benchmark

#: All answers in the order of the file, and those of one rank while it runs.
ANSWERS, _PART = "answers.jsonl", "answers.rank{}.jsonl"
#: Uids of all questions, one per line as JSON; what the benchmark is.
EXPECTED, BENCHMARK = "expected.jsonl", "benchmark.json"


class AnswerWriter:
    """Append records to the file of one rank.

    Args:
        folder (str | PathLike): of a benchmark, see :func:`repair`.
        rank (int): of this process.
    """

    def __init__(self, folder: str | os.PathLike, rank: int) -> None:
        self.path = Path(folder, _PART.format(rank))
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab", buffering=0)

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records; they outlive this process once this returns.

        Raises:
            OSError: naming the file, for a full disk.
        """
        left = memoryview(lines(records).encode())
        with writing(self.path):
            while left:
                left = left[self._file.write(left) :]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def lines(records: Sequence[dict[str, Any]]) -> str:
    """Return records as JSON lines."""
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records)


def repair(folder: str | os.PathLike) -> int:
    """Cut off lines that killed writers left unfinished; return how many.

    No rank may be writing.
    """
    torn = 0
    for path in AnswerReader(folder).paths:
        whole = _whole_lines(path)
        if whole < path.stat().st_size:
            torn += 1
            with writing(path):
                os.truncate(path, whole)
    return torn


def _whole_lines(path: Path) -> int:
    """Return the bytes of a file up to its last line break."""
    end = path.stat().st_size
    with open(path, "rb") as file:
        while end:
            start = max(0, end - 2**16)
            file.seek(start)
            place = file.read(end - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            end = start
    return 0


class AnswerReader:
    """Read the answers of a folder, those of running ranks included.

    Args:
        folder (str | PathLike): of a benchmark.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        #: Bytes read of each file; one that took another's place is another file.
        self._offsets: dict[tuple[Path, int], int] = {}

    @property
    def paths(self) -> list[Path]:
        """Files of answers that are there."""
        return sorted(self.folder.glob("answers*.jsonl"))

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield the records that were added since the last call.

        Unfinished last lines are left for later.

        Raises:
            ValueError: naming file and line, for a damaged one.
        """
        for path in self.paths:
            try:
                file = open(path, "rb")
            except FileNotFoundError:
                continue  # rank 0 has joined it to the others
            with file:
                key = path, os.fstat(file.fileno()).st_ino
                start = self._offsets.get(key, 0)
                file.seek(start)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    yield _parsed(line, path, start)
                    start += len(line)
            self._offsets[key] = start


def num_torn(folder: str | os.PathLike) -> int:
    """Return how many files of answers end with an unfinished line."""
    paths = AnswerReader(folder).paths
    return sum(_whole_lines(path) < path.stat().st_size for path in paths)


def read_records(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the records of one file.

    Raises:
        ValueError: naming file and line, for a damaged one.
    """
    with open(path, "rb") as file:
        return [_parsed(line, Path(path), 0) for line in file if line.strip()]


def _parsed(line: bytes, path: Path, start: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"'{path}': the line at byte {start} is no JSON ({error}): the file is "
            "damaged. Delete that line; the question will be answered again."
        ) from error
    if not isinstance(record, dict) or "uid" not in record or "text" not in record:
        raise ValueError(f"'{path}': the line at byte {start} is no answer record.")
    return record


def write_expected(folder: str | os.PathLike, uids: Sequence[str]) -> None:
    """Write down which questions a benchmark has."""
    text = "".join(json.dumps(uid, ensure_ascii=False) + "\n" for uid in uids)
    write_atomic(Path(folder, EXPECTED), text)


def read_expected(folder: str | os.PathLike) -> list[str]:
    """Return the uids of all questions of a benchmark, in order.

    Raises:
        FileNotFoundError: for a folder that no run has written to.
    """
    path = Path(folder, EXPECTED)
    if not path.is_file():
        raise FileNotFoundError(
            f"'{path}' is missing: which questions '{folder}' should answer is not "
            "known. Name the folder that tools/test.py --benchmarks wrote."
        )
    with open(path, encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def write_benchmark(
    folder: str | os.PathLike, benchmark: Benchmark, **facts: Any
) -> None:
    """Write down what a benchmark is, so that its folder can be scored by itself.

    Args:
        folder (str | PathLike): of its answers.
        benchmark (Benchmark): as it was asked.
        **facts: what else readers of the answers want: ``image_root`` and
            ``data_root``, and ``system``, the config whose published scores stand
            beside these.
    """
    content = dict(benchmark=asdict(benchmark), **facts)
    write_atomic(Path(folder, BENCHMARK), json.dumps(content, indent=1) + "\n")


def read_benchmark(folder: str | os.PathLike) -> tuple[Benchmark, dict[str, Any]]:
    """Return what :func:`write_benchmark` wrote.

    Raises:
        FileNotFoundError: for a folder without it.
    """
    path = Path(folder, BENCHMARK)
    if not path.is_file():
        raise FileNotFoundError(
            f"'{path}' is missing: '{folder}' is no folder of answers to a benchmark."
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    return Benchmark(**content.pop("benchmark")), content


def benchmark_folders(run: str | os.PathLike) -> dict[str, Path]:
    """Return name to folder of the benchmarks of a run, blind ones left out.

    A folder of a single benchmark is a run as well.
    """
    run = Path(run)
    if (run / BENCHMARK).is_file():
        return {run.name: run}
    return {
        path.parent.name: path.parent for path in sorted(run.glob(f"*/{BENCHMARK}"))
    }


def keep_sorted(folder: str | os.PathLike, records: Sequence[dict[str, Any]]) -> None:
    """Replace the files of all ranks by one, in the order of the records."""
    folder = Path(folder)
    write_atomic(folder / ANSWERS, lines(records))
    for path in AnswerReader(folder).paths:
        if path.name != ANSWERS:
            path.unlink()


# Completeness ------------------------------------------------------------------


class IncompleteAnswers(ValueError):
    """Answers that are not those of the set, each once."""


@dataclass
class Answers:
    """The answers of a benchmark, held against its questions.

    Args:
        records (list[dict]): one per answered question, in the order of the set.
        expected (int): questions of the set.
        merged (int): answers that were there twice, alike.
        torn (int): unfinished lines that were dropped.
        missing (list[str]): uids without an answer.
        contradicting (list[str]): uids with several texts; the first counts.
        foreign (list[str]): uids that are none of the set's.
    """

    records: list[dict[str, Any]]
    expected: int
    merged: int = 0
    torn: int = 0
    missing: list[str] = field(default_factory=list)
    contradicting: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def complaint(self) -> str:
        """What is wrong with them; empty for nothing."""
        found = [
            (self.missing, "{} of {} questions have no answer"),
            (self.contradicting, "{} questions have several answers that differ"),
            (self.foreign, "{} answers are to no question of the set"),
        ]
        return "; ".join(
            text.format(len(uids), self.expected) + f" ({_some(uids)})"
            for uids, text in found
            if uids
        )

    def check(self, name: str) -> None:
        """Refuse answers that are not complete.

        Args:
            name (str): of the benchmark, for the message.

        Raises:
            IncompleteAnswers: with counts and examples.
        """
        if self.complaint:
            raise IncompleteAnswers(
                f"{name}: {self.complaint}. Run the same command again to answer what "
                "is missing, or score what is there with --allow-partial, which the "
                "row will say."
            )


def _some(uids: Sequence[str]) -> str:
    return ", ".join(map(repr, uids[:3])) + (", ..." if len(uids) > 3 else "")


def match(
    records: Sequence[dict[str, Any]], expected: Sequence[str], torn: int = 0
) -> Answers:
    """Hold answers against the questions of a set; equal answers become one.

    Args:
        records (Sequence[dict]): in any order.
        expected (Sequence[str]): uids of the questions, in the order of the set.
        torn (int): see :class:`Answers`.

    Raises:
        ValueError: for questions with equal uids.
    """
    twice = [uid for uid, count in Counter(expected).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} questions share their uid ({_some(twice)}).")
    found: dict[str, dict[str, Any]] = {}
    contradicting: dict[str, None] = {}
    merged = 0
    for record in records:
        uid = record["uid"]
        first = found.setdefault(uid, record)
        if first is record:
            continue
        if _answer(first) == _answer(record):
            merged += 1
        elif "error" in (first.get("finish"), record.get("finish")):
            # Tried again, once the image was there.
            found[uid] = record if first.get("finish") == "error" else first
        else:
            contradicting[uid] = None
    known = set(expected)
    return Answers(
        records=[found[uid] for uid in expected if uid in found],
        expected=len(expected),
        merged=merged,
        torn=torn,
        missing=[uid for uid in expected if uid not in found],
        contradicting=list(contradicting),
        foreign=[uid for uid in found if uid not in known],
    )


def _answer(record: dict[str, Any]) -> Any:
    """Return what two answers to one question must share."""
    return record["text"], record.get("finish"), record.get("reference")
