"""What readers of documents share that mix texts and images."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmvlm.datasets.base import ConversationDataset
from mmvlm.datasets.io.derived import DerivedRecords
from mmvlm.datasets.io.json_tables import record_of
from mmvlm.datasets.io.jsonl import JSONLines
from mmvlm.datasets.tasks.base import NothingToAsk
from mmvlm.datasets.transforms.loading import resolve_image_path
from mmvlm.structures import Conversation, Image, Text, Turn

_MISSING = ("damage", "drop")


class TooFewImages(NothingToAsk):
    """A document with fewer images than ``min_images``; counted, not an error."""

    counted_as = "too few images"


@dataclass
class Document:
    """A document: texts and images in order.

    Args:
        items (list[tuple[str, str]]): ``("text", words)`` or ``("image", path)``.
        scores (list[float | None]): per image how well it fits its text; the better
            ones stay when there are too many.
        left_out (Counter): images that the reader left out, by reason.
        id (str): of the document.
        meta (dict): what else the file says.
    """

    items: list[tuple[str, str]]
    scores: list[float | None] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    id: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


class InterleavedDataset(ConversationDataset):
    """Reader of documents; a document is one supervised turn without a question.

    The template is ``dict(type="plain", require_image=False)``. Images that are left
    out are counted by reason in ``meta['left_out']``; their texts stay.

    Subclasses open their rows (:meth:`_open`), read one (:meth:`_raw`) and turn it into
    a :class:`Document` (:meth:`_document`).

    Args:
        ann_file (str): the documents.
        max_images (int | None): most images of a document. The ones that fit their
            texts best stay, or where the format does not say, the first ones.
        min_images (int): documents with fewer, after all else, are left out, counted
            as ``too few images``.
        missing_images (str): an image whose file is missing makes the document
            ``damage``, or is left out alone (``drop``): links die, and sets that were
            fetched from the web lack some.
        separator (str): text between two neighbours.
        **kwargs: see :class:`ConversationDataset`.

    Raises:
        ValueError: for an unknown ``missing_images``, or numbers that do not fit.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        max_images: int | None = None,
        min_images: int = 0,
        missing_images: str = "damage",
        separator: str = "\n",
        **kwargs: Any,
    ) -> None:
        if missing_images not in _MISSING:
            raise ValueError(
                f"missing_images={missing_images!r}: expected one of {list(_MISSING)}."
            )
        if min_images < 0 or (max_images is not None and max_images < min_images):
            raise ValueError(
                f"min_images={min_images}, max_images={max_images}: expected 0 <= "
                "min_images <= max_images."
            )
        self.max_images, self.min_images = max_images, min_images
        self.missing_images = missing_images
        self.separator = separator
        super().__init__(ann_file, **kwargs)

    # What a format defines ------------------------------------------------

    @abstractmethod
    def _open(self) -> Any:
        """Return the rows of the file, something with ``len``.

        Raises:
            ValueError: naming the file, when it cannot be read at all.
        """

    @abstractmethod
    def _raw(self, row: int) -> Any:
        """Return a document as the file has it.

        Raises:
            ValueError: when it cannot be read.
        """

    @abstractmethod
    def _document(self, raw: Any) -> Document:
        """Return what a record says.

        Raises:
            ValueError: naming the field, when it is damaged.
        """

    # What the base class needs ---------------------------------------------

    def _load_records(self) -> DerivedRecords:
        try:
            return DerivedRecords(self._open(), self._made)
        except ValueError as error:
            raise ValueError(f"dataset '{self.name}': {error}") from error

    def _made(self, row: int) -> Document | ValueError:
        try:
            return self._chosen(self._document(self._raw(row)))
        except ValueError as error:
            return error

    def _record_id(self, record: Any) -> str:
        return record.id if isinstance(record, Document) else ""

    def _image_keys(self, record: Any) -> tuple:
        if not isinstance(record, Document):
            return ()
        return tuple(value for kind, value in record.items if kind == "image")

    def _num_words(self, record: Any) -> int:
        if not isinstance(record, Document):
            return 0
        return sum(len(v.split()) for kind, v in record.items if kind == "text")

    def _conversation(
        self, record: Any, images: list, rng: np.random.Generator
    ) -> Conversation:
        if not isinstance(record, Document):
            raise record
        if len(images) < self.min_images:
            raise TooFewImages(f"{len(images)} images, min_images={self.min_images}.")
        parts: list[Text | Image] = []
        shown = 0
        for kind, value in record.items:
            if parts and self.separator:
                parts.append(Text(self.separator))
            if kind == "text":
                parts.append(Text(value))
            else:
                parts.append(Image(shown))
                shown += 1
        if not parts:
            raise ValueError("the document is empty.")
        meta = dict(record.meta)
        if record.left_out:
            meta["left_out"] = dict(record.left_out)
        turn = Turn("assistant", tuple(parts))
        return Conversation([turn], list(images), record.id, meta)

    def _chosen(self, document: Document) -> Document:
        """Leave out images without a file and those that are too many."""
        places = [n for n, (kind, _) in enumerate(document.items) if kind == "image"]
        scores = document.scores or [None] * len(places)
        kept = list(zip(places, scores, strict=True))
        if self.missing_images == "drop":
            kept = [pair for pair in kept if self._exists(document.items[pair[0]][1])]
            document.left_out["no file"] += len(places) - len(kept)
        if self.max_images is not None and len(kept) > self.max_images:
            document.left_out["max_images"] += len(kept) - self.max_images
            best = sorted(kept, key=lambda pair: (-(pair[1] or 0.0), pair[0]))
            kept = best[: self.max_images]
        stay = {place for place, _ in kept}
        document.items = [
            item
            for number, item in enumerate(document.items)
            if item[0] == "text" or number in stay
        ]
        document.left_out = +document.left_out  # without zeros
        return document

    def _exists(self, path: str) -> bool:
        return os.path.isfile(resolve_image_path(path, self.image_root, self.data_root))


class ChainedLines:
    """The lines of several JSONL files, one after the other.

    Args:
        paths (list[str]): the files.

    Raises:
        ValueError: naming the file that cannot be read.
    """

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.files = [JSONLines(path) for path in paths]
        self._ends = np.cumsum([len(file) for file in self.files])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> dict:
        """Return a row.

        Raises:
            ValueError: naming file and line, when it is no JSON object.
        """
        number = int(np.searchsorted(self._ends, row, side="right"))
        line = self.files[number][row - (int(self._ends[number - 1]) if number else 0)]
        if line.reason is not None:
            raise ValueError(line.reason)
        try:
            return record_of(line.value)
        except ValueError as error:
            where = f"line {line.number} of '{self.paths[number]}'"
            raise ValueError(f"{where}: {error}") from error
