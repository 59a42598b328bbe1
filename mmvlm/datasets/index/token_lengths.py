"""Exact lengths of samples in tokens, without decoding an image."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ..bad_samples import DATA_ERRORS
from .arrays import Arrays, Progress, digest_of, kept_arrays, say, source_facts
from .fingerprint import NoFingerprint, fingerprint, text_code

#: Goes up with every change of what is counted.
_VERSION = 2
#: Conversations that are encoded with one call of the tokenizer.
_BATCH = 256
#: Fewer samples are counted anew every time: that takes a moment.
SMALL_SET = 4096


class WatchedRandom:
    """A random generator that is made when it is first used.

    A sample that never asked for a random number has the same length in every
    epoch; one that did has not.

    Args:
        seed (tuple[int, ...]): of :func:`numpy.random.default_rng`.
    """

    def __init__(self, seed: tuple[int, ...]) -> None:
        self._seed, self._made = seed, None
        self._spawned: list[WatchedRandom] = []

    @property
    def is_used(self) -> bool:
        """Whether a number was drawn."""
        return self._made is not None or any(one.is_used for one in self._spawned)

    def spawn(self, count: int) -> list[WatchedRandom]:
        """Return generators as :meth:`SampleGenerator.spawn` does."""
        self._spawned = [WatchedRandom((*self._seed, n)) for n in range(count)]
        return self._spawned

    def integers(self, low: int, high: int | None = None, **options: Any) -> Any:
        """Draw whole numbers; where only one is possible nothing is drawn."""
        first, last = (0, low) if high is None else (low, high)
        if not options and np.ndim(last) == 0 and last - first == 1:
            return np.int64(first)
        return self.__getattr__("integers")(low, high, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._made is None:
            self._made = np.random.default_rng(self._seed)
        return getattr(self._made, name)


class TokenLengths:
    """Counts the tokens of a dataset's samples and keeps what it counted.

    Text goes through the bound encoder, many conversations with one call; tokens of
    images follow from their sizes, which stand in the heads of their files. A
    pipeline with a transform that has no ``plan`` is run as a whole, which decodes
    every image, once.

    Results lie beside the index, keyed by the annotation file, the rows, the reader's
    and the pipeline's options and code, the template and the tokenizer. Images are
    taken to stay as they are.

    Args:
        dataset (ConversationDataset): whose pipeline is bound.
        options (str | None): see :func:`reader_options`.
        context (Any): what the pipeline is bound to.
    """

    def __init__(self, dataset: Dataset, options: str | None, context: Any) -> None:
        self.dataset, self.options, self._context = dataset, options, context
        self._known: dict[tuple[int, int] | None, Arrays] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_known": {}}

    def at(self, epoch: int, repeat: int = 0) -> np.ndarray:
        """Return the lengths of an epoch's samples; see the dataset's method."""
        when = (epoch, repeat)
        for key in (None, when):
            if key in self._known:
                return self._known[key]["tokens"]
        key = self._key()
        found = self._arrays(key, when, key)
        if found.notes["is_random"] and found.notes["when"] != list(when):
            found = self._arrays(key, when, None if key is None else [key, *when])
        if len(self._known) > 2:
            self._known.pop(next(iter(self._known)))
        self._known[when if found.notes["is_random"] else None] = found
        return found["tokens"]

    def _arrays(self, key: str | None, when: tuple[int, int], place: Any) -> Arrays:
        def build() -> tuple[dict[str, np.ndarray], dict]:
            tokens, is_random, left_out = self._count(*when)
            notes = dict(is_random=is_random, when=list(when), left_out=left_out)
            return dict(tokens=tokens), notes

        if key is None:
            return Arrays(*build())
        label = f"token lengths of dataset '{self.dataset.name}'"

        def check(kept: Arrays) -> None:
            kept.expect(len(self.dataset), tokens=("int32", 0))
            if (
                not isinstance(kept.notes["is_random"], bool)
                or kept["tokens"].min() < 1
            ):
                raise ValueError("its lengths or notes are none")
            kept.notes["when"], kept.notes["left_out"]

        stamp = [_VERSION, key]
        return kept_arrays("lengths", place, stamp, build, label=label, check=check)

    def _key(self) -> str | None:
        """Return a hash of all that lengths depend on; None: not to be kept."""
        dataset = self.dataset
        if len(dataset) < SMALL_SET:
            return None
        try:
            if self.options is None:
                raise NoFingerprint("its options or transforms")
            sources = [source_facts(path) for path in dataset._sources()]
            if any(len(facts) < 4 for facts in sources):
                raise NoFingerprint("a folder of annotations")
            context = fingerprint(self._context)
        except NoFingerprint as error:
            say(
                f"dataset '{dataset.name}': its token lengths are counted in every "
                f"run and not kept: {error} cannot be told from another one.",
                logging.WARNING,
            )
            return None
        rows = hashlib.sha256(np.asarray(dataset._rows, np.int64).tobytes())
        return digest_of(
            [sources, self.options, context, text_code(), rows.hexdigest()]
        )

    # Counting ---------------------------------------------------------------

    def _count(self, epoch: int, repeat: int) -> tuple[np.ndarray, bool, int]:
        """Return lengths, whether any depends on the epoch, and failed samples."""
        dataset = self.dataset
        hindrance = dataset.pipeline.without_plan()
        if hindrance is not None:
            say(
                f"dataset '{dataset.name}': token lengths need the whole pipeline, "
                f"images included: {hindrance}.",
                logging.WARNING,
            )
        progress = Progress(
            f"token lengths of dataset '{dataset.name}'", len(dataset), "samples"
        )
        tokens = np.ones(len(dataset), dtype=np.int32)
        is_random, left_out = False, 0
        for start in range(0, len(dataset), _BATCH):
            rows = dataset._rows[start : start + _BATCH].tolist()
            rngs = [WatchedRandom((dataset.seed, epoch, r, repeat)) for r in rows]
            found = list(
                self._whole(rows, rngs) if hindrance else self._planned(rows, rngs)
            )
            is_random |= any(rng.is_used for rng in rngs)
            for offset, length in enumerate(found):
                left_out += length is None
                tokens[start + offset] = max(1, length or 1)
            progress.at(start + len(rows), start + len(rows))
        return tokens, is_random, left_out

    def _planned(
        self, rows: list[int], rngs: list[WatchedRandom]
    ) -> Iterator[int | None]:
        pipeline, samples = self.dataset.pipeline, []

        def plan(row: int, rng: WatchedRandom) -> list[dict]:
            return [pipeline.plan(item) for item in self._items(row, rng)]

        for row, rng in zip(rows, rngs, strict=True):
            samples.append(_tried(plan, row, rng))
        items = [item for own in samples if own is not None for item in own]
        lengths = iter(pipeline.lengths(items))
        for own in samples:
            # A conversation that is left out takes its sample along.
            found = [None] if own is None else [next(lengths) for _ in own]
            yield None if None in found else sum(found)

    def _whole(
        self, rows: list[int], rngs: list[WatchedRandom]
    ) -> Iterator[int | None]:
        def run(row: int, rng: WatchedRandom) -> list[dict]:
            return [self.dataset.pipeline(item) for item in self._items(row, rng)]

        for row, rng in zip(rows, rngs, strict=True):
            items = _tried(run, row, rng)
            yield None if items is None else sum(map(self._length, items))

    def _length(self, item: dict) -> int:
        """Return the tokens of an item that the whole pipeline made."""
        if "inputs" in item:
            return sum(map(len, item["inputs"]["streams"].values()))
        if "encoded" in item:
            return len(item["encoded"]) + len(item.get("encoded_answer", ()))
        raise RuntimeError(
            f"dataset '{self.dataset.name}': its pipeline encodes nothing "
            f"(keys {sorted(item)}); token lengths need EncodeConversation."
        )

    def _items(self, row: int, rng: WatchedRandom) -> list[dict]:
        dataset = self.dataset
        return dataset.separate(dataset._item(row, dataset._record(row), rng))


def _tried(function: Any, *values: Any) -> Any:
    """Return what a function gives, None for a sample that will be left out."""
    try:
        return function(*values)
    except Exception as error:
        if isinstance(error, DATA_ERRORS) or hasattr(error, "counted_as"):
            return None
        raise
