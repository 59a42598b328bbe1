"""The base class of readers: records on disk to items of the pipeline."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mmvlm.structures import AnnotatedImage, Conversation

from .bad_samples import BadSamplePolicy
from .fetching import FetchingDataset
from .index.fingerprint import reader_options
from .index.records import IMAGE, IMAGES, MEDIA, TURNS, RecordFacts, collect_facts
from .sample_rng import SampleGenerator
from .transforms.compose import Compose, attempt

#: Samples that go through the pipeline together; so many decoded images are in
#: memory at once.
_TOGETHER = 8


class ConversationDataset(FetchingDataset):
    """Reader of one annotation file.

    Subclasses know the file's format: :meth:`_load_records`, :meth:`_image_keys`,
    :meth:`_conversation` and :meth:`_num_words`. All else lives here: the pipeline,
    randomness that depends on (seed, epoch, record) only, the policy for bad
    samples, filtering and the blind run.

    No record is kept as an object: ``_records`` reads what it is asked for, and what
    is known of all records (words, what they hold) lies in arrays, which come with
    :class:`~mmvlm.datasets.index.records.JSONRecords` and are collected once, in
    memory, for formats of another kind.

    An item enters the pipeline with the keys ``conversation``, ``dataset``,
    ``index`` (number of the record in the file), ``data_root``, ``image_root`` and
    ``rng`` (:class:`~mmvlm.datasets.sample_rng.SampleGenerator`).

    Args:
        ann_file (str): annotation file, relative to ``data_root``.
        data_root (str): folder that annotations and images may not leave.
        image_prefix (str): folder that image paths are relative to, itself
            relative to ``data_root``.
        pipeline (Sequence[dict | Callable]): transforms.
        name (str | None): for messages and tables; None takes the file's stem.
        filter_cfg (dict | None): ``modality`` (``image``, ``text``, ``audio``, ...)
            and ``max_words`` (int); what they leave out is counted and logged.
        indices (int | Sequence[int] | None): the first n records (the last, if
            negative) or these records; applied before ``filter_cfg``.
        seed (int): of all randomness in the items.
        bad_samples (dict | None): see :class:`BadSamplePolicy`.
        shuffle_images (bool): the blind run: every sample gets the images (and
            other inputs) of another one that has as many, never its own.

    Raises:
        FileNotFoundError: when the annotation file is missing.
        ValueError: naming the file, when it cannot be read or nothing is left.
    """

    #: Modalities besides images and text that the format can hold.
    media_names: tuple[str, ...] = ()
    #: Whether ``ann_file`` is a folder of annotation files.
    reads_folder: bool = False
    #: Whether a sample is a list of conversations; see :meth:`separate`.
    split_turns: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> ConversationDataset:
        """Keep the arguments, subclasses' own included, until they are hashed."""
        self = super().__new__(cls)
        self._init_arguments = (args, kwargs)
        return self

    def __init__(
        self,
        ann_file: str,
        *,
        data_root: str = "",
        image_prefix: str = "",
        pipeline: Sequence[Any] = (),
        name: str | None = None,
        filter_cfg: dict | None = None,
        indices: int | Sequence[int] | None = None,
        seed: int = 0,
        bad_samples: dict | None = None,
        shuffle_images: bool = False,
    ) -> None:
        self.data_root = data_root or ""
        self.ann_file = os.path.join(self.data_root, ann_file)
        self.image_root = os.path.join(self.data_root, image_prefix)
        self.name = name or os.path.splitext(os.path.basename(ann_file))[0]
        self.seed = int(seed)
        self.bad_samples = BadSamplePolicy(**(bad_samples or {}))
        exists = os.path.isdir if self.reads_folder else os.path.isfile
        if not exists(self.ann_file):
            what = "folder" if self.reads_folder else "file"
            raise FileNotFoundError(
                f"dataset '{self.name}': annotation {what} '{self.ann_file}' does not "
                f"exist (data_root='{self.data_root}', ann_file='{ann_file}')."
            )
        # Shared memory, so that set_epoch reaches persistent workers.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._records = self._load_records()
        self._collected: RecordFacts | None = None
        self._num_images: np.ndarray | None = None
        self._rows = self._select(indices, filter_cfg or {})
        self._donors: np.ndarray | None = None
        self._media_donors: np.ndarray | None = None
        if shuffle_images:
            from .blind import deal_inputs

            self._donors = deal_inputs(self, self._safe_image_keys)
            self._media_donors = deal_inputs(self, self._media_pairs)
        self.pipeline = Compose(pipeline)
        self._options = reader_options(self)
        self._context = self._token_lengths = None
        del self._init_arguments

    # What a format defines ------------------------------------------------

    @abstractmethod
    def _load_records(self) -> Any:
        """Open the file; returns something with ``len`` and items by number.

        ``JSONRecords`` and ``JSONLines`` take ``describe=self._describe``.
        """

    def _sources(self) -> list[str]:
        """Return full paths of all files that records depend on."""
        return [self.ann_file]

    def _record(self, row: int) -> Any:
        """Return one record; the only place that reads ``_records``."""
        return self._from_line(self._records[row])

    def _from_line(self, line: Any) -> Any:
        """Return the record that an item of ``_records`` stands for."""
        return line

    @abstractmethod
    def _record_id(self, record: Any) -> str:
        """Return the id; must not fail on a damaged record."""

    @abstractmethod
    def _image_keys(self, record: Any) -> tuple:
        """Return the references of a record's images.

        Raises:
            ValueError: when the field is damaged.
        """

    def _media_keys(self, record: Any) -> dict[str, tuple]:
        """Return the references of inputs that are no images, by modality.

        Raises:
            ValueError: when a field is damaged.
        """
        return {}

    @abstractmethod
    def _conversation(
        self, record: Any, images: list, rng: np.random.Generator
    ) -> Conversation:
        """Parse a record, with these images in place of its own.

        What is drawn comes from ``rng``, which the pipeline goes on with.
        """

    @abstractmethod
    def _num_words(self, record: Any) -> int:
        """Return the word count; must not fail on a damaged record."""

    def _num_questions(self, record: Any) -> int:
        """Return the number of questions; must not fail on a damaged record."""
        return 1

    # Selection ------------------------------------------------------------

    def _select(
        self, indices: int | Sequence[int] | None, filter_cfg: dict
    ) -> np.ndarray:
        unknown = set(filter_cfg) - {"modality", "max_words"}
        modality = filter_cfg.get("modality")
        known = ("image", "text", *self.media_names)
        if unknown or modality not in (None, *known):
            raise ValueError(
                f"dataset '{self.name}': filter_cfg={filter_cfg}: expected the keys "
                f"modality (one of {known}) and max_words (int)."
            )
        rows = np.arange(len(self._records), dtype=np.int32)
        if isinstance(indices, int):
            rows = rows[:indices] if indices >= 0 else rows[indices:]
        elif indices is not None:
            chosen = np.asarray(indices, dtype=np.int64)
            outside = chosen[(chosen < 0) | (chosen >= len(rows))]
            if len(outside) or len(np.unique(chosen)) != len(chosen):
                raise ValueError(
                    f"dataset '{self.name}': indices must be distinct and lie in "
                    f"0..{len(rows) - 1}; outside: {outside[:5].tolist()}."
                )
            rows = chosen
        if filter_cfg:
            keep = np.ones(len(rows), dtype=bool)
            if modality is not None:
                holds = [modality in name.split("+") for name in self._facts.names]
                keep &= np.array(holds, dtype=bool)[self._facts.kinds[rows]]
            if filter_cfg.get("max_words") is not None:
                keep &= self._facts.words[rows] <= filter_cfg["max_words"]
            print_log(
                f"dataset '{self.name}': filter_cfg={filter_cfg} keeps {keep.sum()} "
                f"of {len(rows)} records.",
                logger="current",
                level=logging.INFO,
            )
            rows = rows[keep]
        if not len(rows):
            raise ValueError(
                f"dataset '{self.name}': no record of '{self.ann_file}' is left "
                f"({len(self._records)} in the file; indices={indices!r:.80}, "
                f"filter_cfg={filter_cfg})."
            )
        return rows

    @property
    def _facts(self) -> RecordFacts:
        """What is known of all records of the file."""
        known = getattr(self._records, "facts", None)
        if known is not None:
            return known
        if self._collected is None:
            records = (self._record(row) for row in range(len(self._records)))
            self._collected = collect_facts(map(self._describe_record, records))
        return self._collected

    def _describe(self, line: Any) -> tuple[int, str, int]:
        """Return flags, modality and word count of an item of ``_records``."""
        return self._describe_record(self._from_line(line))

    def _describe_record(self, record: Any) -> tuple[int, str, int]:
        keys, media = self._safe_image_keys(record), self._media_pairs(record)
        flags = IMAGE * bool(keys) | IMAGES * (len(keys) > 1) | MEDIA * bool(media)
        flags |= TURNS * (self._num_questions(record) > 1)
        names = {name for name, _ in media} | ({"image"} if keys else set())
        kind = "+".join(sorted(names)) or "text"
        return flags, kind, max(1, self._num_words(record))

    def _safe_image_keys(self, record: Any) -> tuple:
        """Return the images of a record, none for a damaged one."""
        try:
            return self._image_keys(record)
        except ValueError:
            return ()

    def _media_pairs(self, record: Any) -> tuple:
        """Return (modality, items) of a record, nothing for a damaged one."""
        try:
            return tuple(sorted(self._media_keys(record).items()))
        except ValueError:
            return ()

    # What samplers, loops and the runner use --------------------------------

    @property
    def metainfo(self) -> dict:
        """Facts that metrics and visualizers may want."""
        return dict(name=self.name, ann_file=self.ann_file, image_root=self.image_root)

    @property
    def lengths(self) -> np.ndarray:
        """Signed word counts: negative for text alone, else positive."""
        facts = self._facts
        signs = np.array([-1 if name == "text" else 1 for name in facts.names])
        return facts.words[self._rows] * signs[facts.kinds[self._rows]]

    @property
    def modalities(self) -> np.ndarray:
        """Per sample what it holds: ``text``, ``image``, ``audio``, ..."""
        return np.array(self._facts.names)[self._facts.kinds[self._rows]]

    def modalities_at(self, epoch: int) -> np.ndarray:
        """Return ``modalities`` of another epoch; the same here."""
        return self.modalities

    def lengths_at(self, epoch: int) -> np.ndarray:
        """Return ``lengths`` of another epoch; the same here."""
        return self.lengths

    def num_images_at(self, epoch: int) -> np.ndarray:
        """Return the images of each sample; the same in all epochs.

        Only records with several are read for it, once.

        Returns:
            np.ndarray: (len(self),) int32, 0 for a damaged record.
        """
        if self._num_images is None:
            flags = self._facts.flags[self._rows]
            counts = ((flags & IMAGE) > 0).astype(np.int32)
            for position in np.flatnonzero(flags & IMAGES):
                record = self._record(int(self._rows[position]))
                counts[position] = len(self._safe_image_keys(record))
            self._num_images = counts
        return self._num_images

    def token_lengths_at(self, epoch: int, repeat: int = 0) -> np.ndarray:
        """Return the exact lengths of samples in tokens, those of images included.

        Known after :meth:`bind`, without decoding images (their sizes are read from
        the heads of their files), and kept on disk. Where a task or a template draws
        at random, lengths are exact for this epoch and visit only.

        Args:
            epoch (int): whose samples.
            repeat (int): which visit, as in :meth:`fetch`.

        Returns:
            np.ndarray: (len(self),) int32, at least 1: a sample that will be left out
            when it is fetched counts 1.
        """
        if self._token_lengths is None:
            from .index.token_lengths import TokenLengths

            self._token_lengths = TokenLengths(self, self._options, self._context)
        return self._token_lengths.at(epoch, repeat)

    @property
    def epoch(self) -> int:
        """The epoch that items are made for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch in this process and in running workers."""
        self._epoch.fill_(int(epoch))

    def bind(self, context: Any) -> None:
        """Hand what the pipeline must know of the model to the transforms."""
        self.pipeline.bind(context)
        # Lengths of another tokenizer or model are forgotten.
        self._context, self._token_lengths = context, None

    def __len__(self) -> int:
        return len(self._rows)

    def _fetch_many(self, visits: Sequence[tuple[int, int]]) -> list:
        items: list = []
        for start in range(0, len(visits), _TOGETHER):
            items += self._fetch_together(visits[start : start + _TOGETHER])
        return items

    def _fetch_together(self, visits: Sequence[tuple[int, int]]) -> list:
        """Return a few items, which take each step together."""
        for position, _ in visits:
            if not 0 <= position < len(self):
                raise IndexError(
                    f"dataset '{self.name}': position {position} outside "
                    f"0..{len(self) - 1}."
                )
        rows = [int(self._rows[position]) for position, _ in visits]
        records = [self._record(row) for row in rows]
        facts = list(map(self._naming, rows, records))
        parts: list = [self.bad_samples.listed(**one) for one in facts]
        for place, (_, repeat) in enumerate(visits):
            if parts[place] is None:
                row, record = rows[place], records[place]
                rng = self._rng(row, repeat)
                parts[place] = attempt(self._split_item, row, record, rng)
        groups = [part if isinstance(part, list) else [part] for part in parts]
        flat = [item for group in groups for item in group]
        # Conversations that share an image each decode it, however many they are.
        chunks = [[item] for item in flat] if self.split_turns else [flat]
        made = (one for chunk in chunks for one in self.pipeline.map(chunk))
        items = []
        for place, group in enumerate(groups):
            found = [next(made) for _ in group]
            error = next((one for one in found if isinstance(one, Exception)), None)
            if error is not None:
                row, name = rows[place], facts[place]["sample_id"]
                where = f"sample {row} of '{self.name}' ({self.ann_file}, id '{name}')"
                # A batch may hold the same sample twice.
                items.append(
                    self.bad_samples.listed(**facts[place])
                    or self.bad_samples.handle(error, where=where, **facts[place])
                )
            elif self.split_turns and isinstance(parts[place], list):
                items.append(found)
            else:
                items.append(found[0])
        return items

    def _split_item(self, row: int, record: Any, rng: SampleGenerator) -> list[dict]:
        return self.separate(self._item(row, record, rng))

    def _naming(self, row: int, record: Any) -> dict:
        """Return what names a sample in messages and in the quarantine file."""
        keys, path = self._safe_image_keys(record), self.ann_file
        if keys and isinstance(keys[0], str):
            path = os.path.join(self.image_root, keys[0])
        name = self._record_id(record)
        return dict(dataset=self.name, index=row, sample_id=name, path=path)

    def _rng(self, row: int, repeat: int) -> SampleGenerator:
        return SampleGenerator(self.seed, self.epoch, row, repeat)

    # What tools that check and show records use --------------------------------

    def facts_at(self, position: int) -> dict:
        """Return ``dataset``, ``index``, ``sample_id`` and ``path`` of a sample."""
        row = int(self._rows[position])
        return self._naming(row, self._record(row))

    def record_at(self, position: int) -> Any:
        """Return the record as the reader sees it."""
        return self._record(int(self._rows[position]))

    def annotation_at(self, position: int) -> AnnotatedImage | None:
        """Return all that a record annotates; None for conversations."""
        return None

    def item_at(self, position: int, repeat: int = 0) -> dict:
        """Return the item that the pipeline starts from; errors are not handled."""
        row = int(self._rows[position])
        return self._item(row, self._record(row), self._rng(row, repeat))

    def separate(self, item: dict) -> list[dict]:
        """Return the items of a sample's conversations: here one, as it is."""
        return [item]

    def _item(self, row: int, record: Any, rng: SampleGenerator) -> dict:
        images = self._image_keys(record)
        if self._donors is not None and self._donors[row] >= 0:
            images = self._safe_image_keys(self._record(int(self._donors[row])))
        conversation = self._conversation(record, list(images), rng)
        if self._media_donors is not None and self._media_donors[row] >= 0:
            donor = self._record(int(self._media_donors[row]))
            donated = dict(self._media_pairs(donor))
            conversation.media = {name: list(donated[name]) for name in donated}
        conversation.check()
        return dict(
            conversation=conversation,
            dataset=self.name,
            index=row,
            data_root=self.data_root,
            image_root=self.image_root,
            rng=rng,
        )
