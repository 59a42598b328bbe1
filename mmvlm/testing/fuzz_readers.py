"""Feed damaged files to every reader and hold what comes out against the contract.

A reader may refuse a file when it is opened (ValueError that names it), hand a
sample out, or count it as bad. Anything else is a failure: another exception, a
hang, or a record that is gone without being counted.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import pickle
import shutil
import signal
import tarfile
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .mutations import mutate_bytes, mutate_picture, mutate_record, mutate_text, pick

#: Seconds that a case may take.
PATIENCE = 10.0
#: Readers whose records are what stands in the file.
RAW_RECORDS = ("LLaVADataset", "DenseFusionDataset")
#: Shares of the kinds of damage.
KINDS = {"record": 0.45, "source": 0.35, "bytes": 0.1, "picture": 0.1}


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
    """Return the annotation files that a data set reads; folders are walked."""
    named = getattr(dataset, "_sources", lambda: [dataset.ann_file])()
    paths: list[str] = []
    for path in named:
        if os.path.isdir(path):
            inside = (
                os.path.join(d, f) for d, _, files in os.walk(path) for f in files
            )
            paths += sorted(inside)
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
                    outcome.failure = f"refused, but no file named: {_told(error)}"
                return outcome
            for position in range(len(dataset)):
                fetch(dataset, position, outcome)
    except (Exception, Hang) as error:
        outcome.failure = _told(error)
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
                    f"a region of picture {part.image}, which is not there"
                )


def _told(error: BaseException) -> str:
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
        self._pictures = [_pictures(dataset) for dataset in self._opened]
        for config in self.configs:
            whole = walk(config, self.pipeline)
            if whole.failure or whole.bad or not whole.good:
                raise RuntimeError(f"{name}: {config} is damaged as written: {whole}.")

    def case(self, kind: str, rng: np.random.Generator) -> Outcome:
        """Run one case of a kind of :data:`KINDS`."""
        number = int(rng.integers(len(self.configs)))
        if kind == "picture" and not self._pictures[number]:
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
                dataset._num_words(mutated)
                dataset._modality(mutated)
                fetch(dataset, row, outcome)
        except (Exception, Hang) as error:
            outcome.failure = f"{_told(error)}; record {mutated!r:.300}"
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

    def _picture(self, number: int, rng: np.random.Generator) -> Outcome:
        """Damage a picture, and fetch its sample."""
        position, path = pick(self._pictures[number], rng)
        dataset, outcome = self._opened[number], Outcome()
        with replaced(path, lambda data: mutate_picture(data, rng)):
            try:
                with watchdog():
                    fetch(dataset, position, outcome)
            except (Exception, Hang) as error:
                outcome.failure = _told(error)
        return outcome

    def _damaged(
        self, number: int, path: str, damage: Callable, rng: np.random.Generator
    ) -> Outcome:
        names = [os.path.basename(p) for p in self._sources[number]]
        names += [os.path.basename(self._opened[number].ann_file.rstrip("/"))]
        with replaced(path, lambda data: damage(path, data, rng)) as changed:
            outcome = walk(self.configs[number], self.pipeline, names)
            said = f"{os.path.relpath(path, self.folder)}: {difference(*changed)}"
            if outcome.failure is not None:
                outcome.failure += f"; {said}"
            elif not outcome.refused and outcome.seen < len(self._rows[number]):
                outcome.fewer = f"{outcome.seen} of {len(self._rows[number])}; {said}"
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


def mutate_source(path: str, data: bytes, rng: np.random.Generator) -> bytes:
    """Change values of an annotation file of any kind, so that it can be parsed."""
    if not data:
        return mutate_bytes(data, rng)
    if path.endswith((".json", ".jsonl")):
        return _mutate_json(data, rng)
    if path.endswith((".p", ".pkl")):
        value = pickle.loads(data)  # what this process wrote itself
        return pickle.dumps(mutate_record(value, rng), protocol=2)
    if path.endswith((".parquet", ".arrow")):
        return _mutate_table(path, data, rng)
    if path.endswith(".tar"):
        return _mutate_tar(data, rng)
    try:
        return mutate_text(data.decode("utf-8"), rng).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return mutate_bytes(data, rng)


def _mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    text = data.decode("utf-8")
    try:
        return _dump(mutate_record(json.loads(text), rng))
    except json.JSONDecodeError:
        lines = text.splitlines()
    at = int(rng.integers(len(lines)))
    changed = _dump(mutate_record(json.loads(lines[at]), rng))
    encoded = [line.encode() for line in lines]
    return b"\n".join([*encoded[:at], changed, *encoded[at + 1 :]]) + b"\n"


def _dump(value: Any) -> bytes:
    ascii_only = isinstance(value, dict | list) and len(repr(value)) % 2 == 0
    text = json.dumps(value, ensure_ascii=ascii_only, default=str)
    return text.encode("utf-8", "surrogatepass")


def _mutate_table(path: str, data: bytes, rng: np.random.Generator) -> bytes:
    """Change cells of a Parquet or Arrow file; its schema follows them."""
    import pyarrow
    from pyarrow import ipc, parquet

    is_parquet, buffer = path.endswith(".parquet"), io.BytesIO()
    read = (
        parquet.read_table if is_parquet else (lambda f: ipc.open_stream(f).read_all())
    )
    try:
        table = read(io.BytesIO(data))
        changed = pyarrow.Table.from_pylist(mutate_record(table.to_pylist(), rng))
        if is_parquet:
            parquet.write_table(changed, buffer)
        else:
            with ipc.new_stream(buffer, changed.schema) as stream:
                stream.write_table(changed)
    except (pyarrow.ArrowException, *_NO_TABLE):
        return mutate_bytes(data, rng)
    return buffer.getvalue()


#: What pyarrow raises for values that no column holds.
_NO_TABLE = (ValueError, TypeError, AttributeError, KeyError, OverflowError)


def _mutate_tar(data: bytes, rng: np.random.Generator) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar if m.isfile()]
    at = int(rng.integers(len(members)))
    name, content = members[at]
    if rng.random() < 0.15:
        name = str(pick(("../" + name, "/" + name, "x", name + name, ""), rng))
    members[at] = (name, mutate_bytes(content, rng))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _pictures(dataset: Any) -> list[tuple[int, str]]:
    """Return (position, path) of samples whose picture is a file of its own."""
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
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tally]:
    """Run ``num`` cases, dealt to the formats in turn.

    Args:
        num (int): cases.
        seed (int): the same seed gives the same damage.
        formats (Sequence[str] | None): names in ``SCENE_WRITERS``; None takes all.
        progress (Callable | None): called with (cases done, failures).

    Raises:
        KeyError: for an unknown format.

    """
    from mmvlm.registry import SCENE_WRITERS

    SCENE_WRITERS.import_from_location()
    known = sorted(SCENE_WRITERS.module_dict)
    unknown = sorted(set(formats or ()) - set(known))
    if unknown:
        raise KeyError(f"no format {unknown}; there are {known}.")
    memory = "/dev" + "/shm"  # files that are written 100,000 times wear no disk
    base = memory if os.access(memory, os.W_OK) else None
    before = os.environ.get("MMVLM_CACHE")
    with tempfile.TemporaryDirectory(prefix="mmvlm-fuzz-", dir=base) as folder:
        os.environ["MMVLM_CACHE"] = os.path.join(folder, "cache")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _fuzz(formats or known, folder, (num, seed), progress)
        finally:
            os.environ.pop("MMVLM_CACHE")
            if before is not None:
                os.environ["MMVLM_CACHE"] = before


def _fuzz(
    names: Sequence[str],
    folder: str,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None,
) -> dict[str, Tally]:
    num, seed = size
    fuzzers = [FormatFuzzer(name, os.path.join(folder, name)) for name in names]
    fuzzers = [fuzzer for fuzzer in fuzzers if fuzzer.configs]
    tallies = {fuzzer.name: Tally() for fuzzer in fuzzers}
    kinds, shares = list(KINDS), list(KINDS.values())
    failures = 0
    for number in range(num):
        rng = np.random.default_rng((seed, number))
        fuzzer = fuzzers[number % len(fuzzers)]
        kind = str(rng.choice(kinds, p=shares))
        outcome = fuzzer.case(kind, rng)
        tallies[fuzzer.name].add(kind, outcome, f"{fuzzer.name} case {number} ({kind})")
        failures += outcome.failure is not None
        if progress is not None and (number + 1) % 500 == 0:
            progress(number + 1, failures)
    return tallies


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
