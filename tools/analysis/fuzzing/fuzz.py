"""Feed damaged files to every reader and hold what comes out against the contract.

A reader may refuse a file when it is opened (ValueError that names it), hand a
sample out, or count it as bad. Anything else is a failure: another exception, a
hang, or a record that is gone without being counted.
"""

from __future__ import annotations

import contextlib
import glob
import multiprocessing
import os
import shutil
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

import numpy as np

from .mutations import mutate_bytes, mutate_image, mutate_record, pick
from .source_mutations import mutate_source

#: Seconds that a case may take.
PATIENCE = 10.0
#: Readers whose records are what stands in the file.
RAW_RECORDS = ("LLaVADataset", "DenseFusionDataset")
#: Shares of the kinds of damage.
KINDS = {"record": 0.45, "source": 0.35, "bytes": 0.1, "image": 0.1}


class Hang(BaseException):
    """A case took longer than :data:`PATIENCE`."""


@contextlib.contextmanager
def watchdog(seconds: float = PATIENCE) -> Iterator[None]:
    """Raise :class:`Hang` when what is inside takes too long (main thread only)."""

    def ring(*_: Any) -> None:
        raise Hang(f"no answer after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Outcome:
    """What one case gave.

    Args:
        seen (int): samples that were fetched.
        good (int): that came out.
        bad (int): that were counted as bad or left out.
        refused (bool): whether opening raised as documented.
        fewer (str | None): what was damaged, when less was seen than was written.
        failure (str | None): what went wrong.
    """

    seen: int = 0
    good: int = 0
    bad: int = 0
    refused: bool = False
    fewer: str | None = None
    failure: str | None = None


@dataclass
class Tally:
    """Outcomes of one format, added up."""

    cases: Counter = field(default_factory=Counter)
    seen: int = 0
    good: int = 0
    bad: int = 0
    refused: int = 0
    fewer: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def merge(self, other: Tally) -> None:
        """Add the cases of another tally."""
        self.cases.update(other.cases)
        self.seen += other.seen
        self.good += other.good
        self.bad += other.bad
        self.refused += other.refused
        self.fewer += other.fewer
        self.failures += other.failures

    def add(self, kind: str, outcome: Outcome, where: str) -> None:
        """Add a case."""
        self.cases[kind] += 1
        self.seen += outcome.seen
        self.good += outcome.good
        self.bad += outcome.bad
        self.refused += outcome.refused
        if outcome.fewer is not None:
            self.fewer.append(f"{where}: {outcome.fewer}")
        if outcome.failure is not None:
            self.failures.append(f"{where}: {outcome.failure}")


def sources_of(dataset: Any) -> list[str]:
    """Return the annotation files that a dataset reads; folders are walked.

    Photographs that lie beside them are left out: it is the pipeline that decodes
    them, the reader looks at their heads.
    """
    named = getattr(dataset, "_sources", lambda: [dataset.ann_file])()
    paths: list[str] = []
    for path in named:
        if os.path.isdir(path):
            inside = (
                os.path.join(d, f) for d, _, files in os.walk(path) for f in files
            )
            paths += sorted(path for path in inside if not path.endswith(".jpg"))
        else:
            paths += sorted(glob.glob(path)) if glob.has_magic(path) else [path]
    return list(dict.fromkeys(paths))


def open_reader(config: dict, pipeline: Sequence[Any] = ()) -> Any:
    """Open a reader that counts bad samples."""
    from mmvlm.registry import DATASETS

    policy = dict(policy="skip", max_fraction=1.0)
    return DATASETS.build({**config, "pipeline": list(pipeline), "bad_samples": policy})


def walk(
    config: dict,
    pipeline: Sequence[Any] = (),
    names: Sequence[str] = (),
) -> Outcome:
    """Open a reader, fetch everything, and judge what happened.

    Args:
        config (dict): of ``SceneWriter.readers``.
        pipeline (Sequence): transforms.
        names (Sequence[str]): of files, one of which a refusal must name.
    """
    outcome = Outcome()
    try:
        with watchdog():
            try:
                dataset = open_reader(config, pipeline)
            except (ValueError, FileNotFoundError) as error:
                outcome.refused = True
                if names and not any(name in str(error) for name in names):
                    outcome.failure = f"refused, but no file named: {_described(error)}"
                return outcome
            if not len(dataset.lengths) == len(dataset.modalities) == len(dataset):
                raise RuntimeError("lengths or modalities are not one per sample")
            for position in range(len(dataset)):
                fetch(dataset, position, outcome)
    except (Exception, Hang) as error:
        outcome.failure = _described(error)
    return outcome


def fetch(dataset: Any, position: int, outcome: Outcome) -> None:
    """Fetch one sample and count it.

    Raises:
        TypeError: when something else than an item or a bad record comes.
    """
    from mmvlm.datasets.bad_samples import BadRecord

    item = dataset.fetch(position)
    outcome.seen += 1
    if isinstance(item, BadRecord):
        outcome.bad += 1
    elif isinstance(item, dict):
        outcome.good += 1
        check_item(item)
    else:
        raise TypeError(f"fetch gave a {type(item).__name__}.")


def check_item(item: dict) -> None:
    """Hold an item against the contract of conversations.

    Raises:
        RuntimeError: when it breaks it, as then the reader let damage through.
    """
    from mmvlm.structures import Region, Text

    talk = item.get("conversation")
    if talk is None:
        return
    try:
        talk.check()
    except ValueError as error:
        raise RuntimeError(f"a conversation that fails its check: {error}") from error
    for turn in talk.turns:
        for part in turn.parts:
            if isinstance(part, Text) and not isinstance(part.text, str):
                raise RuntimeError(f"a text that is {part.text!r:.80}")
            if isinstance(part, Region) and not 0 <= part.image < len(talk.images):
                raise RuntimeError(
                    f"a region of image {part.image}, which is not there"
                )


def _described(error: BaseException) -> str:
    """Return kind, words and place of an error."""
    root = error.__cause__ or error
    frames = traceback.extract_tb(root.__traceback__)
    ours = [f for f in frames if "mmvlm" in f.filename] or frames
    place = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else "?"
    words = f"{type(root).__name__}: {str(root)!r:.200} at {place}"
    return words if root is error else f"{type(error).__name__} from {words}"


class FormatFuzzer:
    """One format, written once; every case damages it and repairs it again.

    Args:
        name (str): in ``SCENE_WRITERS``.
        folder (str): to write into.
        num_scenes (int): of each split.
    """

    def __init__(self, name: str, folder: str, num_scenes: int = 2) -> None:
        from mmvlm.datasets.tiny_scenes.samples import test_samples, training_samples
        from mmvlm.registry import SCENE_WRITERS

        self.name, self.folder = name, folder
        writer = SCENE_WRITERS.build(dict(type=name, folder=folder))
        samples = {"train": list(training_samples(num_scenes, 5))}
        taken = {sample.scene.key for sample in samples["train"]}
        samples["test"] = list(test_samples(num_scenes, 5, taken=taken))
        for split, scenes in samples.items():
            writer.write_images(scenes)
            writer.write(split, scenes)
        self.configs = [c for split in samples for c in writer.readers(split)]
        self.pipeline = [dict(type="LoadImages")]
        self._opened = [open_reader(c, self.pipeline) for c in self.configs]
        self._sources = [sources_of(d) for d in self._opened]
        self._rows = [[d.record_at(i) for i in range(len(d))] for d in self._opened]
        self._images = [_images(dataset) for dataset in self._opened]
        for config in self.configs:
            whole = walk(config, self.pipeline)
            if whole.failure or whole.bad or not whole.good:
                raise RuntimeError(f"{name}: {config} is damaged as written: {whole}.")

    def case(self, kind: str, rng: np.random.Generator) -> Outcome:
        """Run one case of a kind of :data:`KINDS`."""
        number = int(rng.integers(len(self.configs)))
        if kind == "image" and not self._images[number]:
            kind = "bytes"
        return getattr(self, f"_{kind}")(number, rng)

    def _record(self, number: int, rng: np.random.Generator) -> Outcome:
        """Damage a record in memory, where it is the file's own; else in the file.

        Most readers check what they join into rows, and nobody else writes rows.
        """
        dataset, outcome = self._opened[number], Outcome()
        row = int(rng.integers(len(self._rows[number])))
        good = self._rows[number][row]
        if type(dataset).__name__ not in RAW_RECORDS or not isinstance(good, dict):
            return self._source(number, rng)
        mutated = mutate_record(good, rng)
        dataset._record = lambda row: mutated
        try:
            with watchdog():
                fetch(dataset, row, outcome)
        except (Exception, Hang) as error:
            outcome.failure = f"{_described(error)}; record {mutated!r:.300}"
        finally:
            del dataset._record
        return outcome

    def _source(self, number: int, rng: np.random.Generator) -> Outcome:
        """Damage a value inside of an annotation file, which stays well formed."""
        path = pick(self._sources[number], rng)
        return self._damaged(number, path, mutate_source, rng)

    def _bytes(self, number: int, rng: np.random.Generator) -> Outcome:
        """Damage an annotation file without regard for its form."""
        path = pick(self._sources[number], rng)
        return self._damaged(number, path, lambda p, d, r: mutate_bytes(d, r), rng)

    def _image(self, number: int, rng: np.random.Generator) -> Outcome:
        """Damage an image, and fetch its sample."""
        position, path = pick(self._images[number], rng)
        dataset, outcome = self._opened[number], Outcome()
        with replaced(path, lambda data: mutate_image(data, rng)):
            try:
                with watchdog():
                    fetch(dataset, position, outcome)
            except (Exception, Hang) as error:
                outcome.failure = _described(error)
        return outcome

    def _damaged(
        self, number: int, path: str, damage: Callable, rng: np.random.Generator
    ) -> Outcome:
        names = [os.path.basename(p) for p in self._sources[number]]
        names += [os.path.basename(self._opened[number].ann_file.rstrip("/"))]
        with replaced(path, lambda data: damage(path, data, rng)) as changed:
            outcome = walk(self.configs[number], self.pipeline, names)
            change = f"{os.path.relpath(path, self.folder)}: {difference(*changed)}"
            if outcome.failure is not None:
                outcome.failure += f"; {change}"
            elif not outcome.refused and outcome.seen < len(self._rows[number]):
                outcome.fewer = f"{outcome.seen} of {len(self._rows[number])}; {change}"
        return outcome


@contextlib.contextmanager
def replaced(path: str, change: Callable[[bytes], bytes]) -> Iterator[tuple]:
    """Put a changed file in a file's place for a while; caches are emptied."""
    with open(path, "rb") as file:
        before = file.read()
    after = change(before)
    try:
        with open(path, "wb") as file:
            file.write(after)
        yield before, after
    finally:
        with open(path, "wb") as file:
            file.write(before)
        cache = os.environ.get("MMVLM_CACHE")
        if cache:
            shutil.rmtree(cache, ignore_errors=True)


def difference(before: bytes, after: bytes) -> str:
    """Show where two files differ first."""
    same = os.path.commonprefix([before, after])
    at = max(0, len(same) - 40)
    return f"{len(before)} -> {len(after)} bytes, {after[at : at + 160]!r}"


def _images(dataset: Any) -> list[tuple[int, str]]:
    """Return (position, path) of samples whose image is a file of its own."""
    found = []
    for position in range(len(dataset)):
        path = dataset.facts_at(position)["path"]
        if os.path.isfile(path) and path != dataset.ann_file:
            found.append((position, path))
    return found


def fuzz(
    num: int,
    seed: int = 0,
    formats: Sequence[str] | None = None,
    *,
    jobs: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tally]:
    """Run ``num`` cases, dealt to the formats in turn.

    Args:
        num (int): cases.
        seed (int): the same seed gives the same damage.
        formats (Sequence[str] | None): names in ``SCENE_WRITERS``; None takes all.
        jobs (int): processes; a case that kills its process is a failure then. 0
            works in this one.
        progress (Callable | None): called with (cases done, failures).

    Raises:
        KeyError: for an unknown format.
    """
    from mmvlm.registry import SCENE_WRITERS

    known = sorted(SCENE_WRITERS.module_dict)
    unknown = sorted(set(formats or ()) - set(known))
    if unknown:
        raise KeyError(f"no format {unknown}; there are {known}.")
    memory = "/dev" + "/shm"  # files that are written 100,000 times wear no disk
    base = memory if os.access(memory, os.W_OK) else None
    names, sums = list(formats or known), _Sums(num, progress)
    with tempfile.TemporaryDirectory(prefix="mmvlm-fuzz-", dir=base) as folder:
        if not jobs:
            for part in _run_cases(names, folder, seed, range(num)):
                sums.add(*part)
            return sums.tallies
        plans = [list(range(job, num, jobs)) for job in range(jobs)]
        _run_processes(names, folder, seed, plans, sums)
    return sums.tallies


class _Sums:
    """Tallies of all processes, added up as they come."""

    def __init__(self, num: int, progress: Callable[[int, int], None] | None) -> None:
        self.num, self.progress, self.done = num, progress, 0
        self.tallies: dict[str, Tally] = {}

    def add(self, count: int, tallies: dict[str, Tally]) -> None:
        """Add a stretch of cases."""
        self.done += count
        for name, tally in sorted(tallies.items()):
            self.tallies.setdefault(name, Tally()).merge(tally)
        if self.progress is not None:
            failures = sum(len(tally.failures) for tally in self.tallies.values())
            self.progress(self.done, failures)


#: Cases between two reports of a process.
_STRETCH = 100


def _run_cases(
    names: Sequence[str], folder: str, seed: int, numbers: Sequence[int], at: Any = None
) -> Iterator[tuple[int, dict[str, Tally]]]:
    """Yield (cases, tallies) of every stretch; ``at.value`` is the running case."""
    before = os.environ.get("MMVLM_CACHE")
    os.environ["MMVLM_CACHE"] = os.path.join(folder, "cache")
    kinds, shares = list(KINDS), list(KINDS.values())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fuzzers = [FormatFuzzer(name, os.path.join(folder, name)) for name in names]
            fuzzers = [fuzzer for fuzzer in fuzzers if fuzzer.configs]
            for start in range(0, len(numbers), _STRETCH):
                part = numbers[start : start + _STRETCH]
                tallies = {fuzzer.name: Tally() for fuzzer in fuzzers}
                for number in part:
                    if at is not None:
                        at.value = number
                    rng = np.random.default_rng((seed, number))
                    fuzzer = fuzzers[number % len(fuzzers)]
                    kind = str(rng.choice(kinds, p=shares))
                    outcome = fuzzer.case(kind, rng)
                    where = f"{fuzzer.name} case {number} ({kind})"
                    tallies[fuzzer.name].add(kind, outcome, where)
                yield len(part), tallies
    finally:
        os.environ.pop("MMVLM_CACHE")
        if before is not None:
            os.environ["MMVLM_CACHE"] = before


def _run_processes(
    names: Sequence[str], folder: str, seed: int, plans: list[list[int]], sums: _Sums
) -> None:
    """Share cases among processes; one that dies is replaced behind its case."""
    context = multiprocessing.get_context("fork")
    running: dict[Any, tuple] = {}

    def start(plan: list[int]) -> None:
        place = tempfile.mkdtemp(dir=folder)
        reading, writing = context.Pipe(duplex=False)
        at = context.Value("q", -1)
        task = (names, place, seed, plan, at, writing)
        process = context.Process(target=_work, args=task, daemon=True)
        process.start()
        writing.close()
        running[reading] = process, plan, at

    for plan in plans:
        start(plan)
    while running:
        for reading in connection.wait(list(running)):
            process, plan, at = running[reading]
            try:
                count, tallies = reading.recv()
            except EOFError as error:
                del running[reading]
                process.join()
                if process.exitcode and at.value < 0:
                    raise RuntimeError("a process failed before a case.") from error
                if plan and process.exitcode:
                    dead = Tally(failures=[_last_words(at.value, process.exitcode)])
                    sums.add(1, {"(killed)": dead})
                    start([number for number in plan if number != at.value])
                continue
            running[reading] = process, plan[count:], at
            sums.add(count, tallies)


def _work(
    names: Sequence[str], folder: str, seed: int, plan: list[int], at: Any, writing: Any
) -> None:
    parent = os.getppid()
    for part in _run_cases(names, folder, seed, plan, at):
        if os.getppid() != parent:
            return  # it was killed; nobody listens
        writing.send(part)
    writing.close()


def _last_words(number: int, code: int) -> str:
    return f"case {number} killed its process (exit code {code})"


def table(tallies: dict[str, Tally]) -> list[str]:
    """Return the lines of a table in Markdown."""
    heads = ["format", *KINDS, "refused", "samples", "good", "counted bad"]
    heads += ["fewer samples", "failures"]
    lines = [f"| {' | '.join(heads)} |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    rows = [
        [
            name,
            *(tally.cases[kind] for kind in KINDS),
            *(tally.refused, tally.seen, tally.good, tally.bad),
            *(len(tally.fewer), len(tally.failures)),
        ]
        for name, tally in tallies.items()
    ]
    if rows:
        sums = [sum(column) for column in list(zip(*rows, strict=True))[1:]]
        rows.append(["all", *sums])
    for name, *numbers in rows:
        cells = " | ".join(f"{value:,}" for value in numbers)
        lines.append(f"| {name} | {cells} |")
    return lines
