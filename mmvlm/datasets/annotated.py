"""The base class of readers whose records annotate one image."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import PIL.Image

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Conversation, Region

from .base import ConversationDataset
from .io.flattened import flatten_once
from .io.jsonl import JSONLine
from .tasks.base import DataTask
from .transforms.loading import resolve_image_path

#: Field of a flattened row that stands for a record that cannot be used.
DAMAGED = "_damaged"


class AnnotatedImageDataset(ConversationDataset):
    """Reader of annotated images; a task turns each into a conversation.

    The files of most public sets are joined tables (references, annotations,
    images, ...). They are flattened once into rows, one per sample, which are kept
    in a cache (see :func:`flatten_once`) and read one by one afterwards.
    Subclasses define :meth:`_sources`, :meth:`_flatten` and :meth:`_annotation`, and
    ``default_task``; :attr:`row_version` goes up with every change of their rows.

    Args:
        ann_file (str): main annotation file (or folder), relative to ``data_root``.
        task (dict | DataTask | None): config in ``DATA_TASKS``; None takes
            ``default_task``.
        evaluate (bool): samples are to be answered and scored, not trained on. What
            scorers need is then in ``Conversation.meta``: ``reference``
            (:meth:`DataTask.reference`, unless the reader gives one of its own),
            ``question_id`` in the file's type, and ``width`` and ``height`` in pixels
            where they are known. Boxes that training refuses (no extent, outside of
            the image) are kept as the file has them; an answer that would have to
            say such a box, or a region that the pipeline does not write, is left out.
        split_turns (bool): every question with its answer is a conversation of its
            own that shows the same image, as LISA trains; they stay together in a
            batch, which so holds more conversations than ``batch_size``. Each has
            random draws of its own, those of a view included. Training only.
        **kwargs: see :class:`ConversationDataset`.
    """

    default_task: ClassVar[dict] = dict(type="ImageCaption")
    row_version: int = 1

    def __init__(
        self,
        ann_file: str,
        *,
        task: dict | DataTask | None = None,
        evaluate: bool = False,
        split_turns: bool = False,
        **kwargs: Any,
    ) -> None:
        if evaluate and split_turns:
            raise ValueError(
                f"{type(self).__name__}: split_turns=True is for training; what is "
                "scored asks one question (max_questions=1 of the task)."
            )
        self.evaluate, self.split_turns = bool(evaluate), bool(split_turns)
        task = self.default_task if task is None else task
        self.task = DATA_TASKS.build(task) if isinstance(task, dict) else task
        super().__init__(ann_file, **kwargs)

    # What a format defines ------------------------------------------------

    def _sources(self) -> list[str]:
        """Return full paths of all files that the rows depend on."""
        return [self.ann_file]

    def _row_options(self) -> dict:
        """Return the constructor's options that change rows (split, ...)."""
        return {}

    @abstractmethod
    def _flatten(self) -> Iterable[dict]:
        """Yield one JSON-able row per sample; called when no cache fits.

        A row has ``id``, ``image`` (path below ``image_prefix``, or None) and what
        :meth:`_annotation` reads. A record that cannot be used is yielded as
        ``damaged(id, reason)``, so that it is counted where it stands.

        Raises:
            ValueError: naming the file, when it cannot be read at all.
        """

    @abstractmethod
    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        """Return what a row says.

        Args:
            row (dict): of :meth:`_flatten`.
            size (tuple[int, int] | None): height and width of its image.

        Raises:
            ValueError: when the row is damaged, naming the field.
        """

    # What the base class needs ---------------------------------------------

    def _load_records(self) -> Any:
        try:
            return flatten_once(
                self._sources(),
                self._flatten,
                kind=f"{type(self).__name__}-{self.row_version}",
                options=self._row_options(),
                name=self.name,
                describe=self._describe,
            )
        except ValueError as error:
            raise ValueError(f"dataset '{self.name}': {error}") from error

    def _from_line(self, line: JSONLine) -> dict:
        if line.reason is not None:
            return damaged("", line.reason)
        return line.value

    def _record_id(self, record: dict) -> str:
        return str(record.get("id", ""))

    def _image_keys(self, record: dict) -> tuple:
        image = record.get("image")
        if isinstance(image, list):
            return tuple(image)
        return () if image is None else (image,)

    def _num_words(self, record: dict) -> int:
        return _count_words(record)

    def _conversation(
        self, record: dict, images: list, rng: np.random.Generator
    ) -> Conversation:
        if DAMAGED in record:
            raise ValueError(record[DAMAGED])
        own = self._image_keys(record)
        size = self._size(record, own[0]) if own else None
        annotation = self._annotation(record, size)
        conversation = self.task(annotation, images, rng)
        return (
            self._evaluated(conversation, annotation)
            if self.evaluate
            else (conversation)
        )

    def separate(self, item: dict) -> list[dict]:
        """Return the items of a sample's conversations; see ``split_turns``."""
        if not self.split_turns:
            return [item]
        parts = self.task.separate(item["conversation"])
        rngs = item["rng"].spawn(len(parts))
        return [
            dict(item, conversation=one, rng=rng)
            for one, rng in zip(parts, rngs, strict=True)
        ]

    def num_images_at(self, epoch: int) -> np.ndarray:
        """Return the images of each sample; see the base.

        Raises:
            ValueError: with ``split_turns``: how often an image is shown is known
                only when its questions are drawn.
        """
        if self.split_turns:
            raise ValueError(
                f"dataset '{self.name}': max_images cannot be held with "
                "split_turns=True, where every question shows the image again; use "
                "max_tokens."
            )
        return super().num_images_at(epoch)

    def _evaluated(
        self, conversation: Conversation, annotation: AnnotatedImage
    ) -> Conversation:
        """Add what scorers need; leave out an answer that no box can give."""
        meta = dict(question_id=annotation.id)
        if annotation.size is not None:
            meta["height"], meta["width"] = annotation.size
        meta |= conversation.meta
        if "reference" not in meta:
            meta["reference"] = self.task.reference(annotation)
        turns, last = list(conversation.turns), conversation.turns[-1]
        said = [part for part in last.parts if isinstance(part, Region)]
        unusable = any(item.meta.get("unusable") for item in annotation.instances)
        if said and last.role == "assistant":
            if unusable or any(map(_is_flat, said)) or not self.pipeline.writes_regions:
                turns.pop()
        return replace(conversation, turns=turns, meta=meta)

    def annotation_at(self, position: int) -> AnnotatedImage:
        """Return all that a record annotates.

        Raises:
            ValueError: when it is damaged.
        """
        record = self.record_at(position)
        if DAMAGED in record:
            raise ValueError(record[DAMAGED])
        own = self._image_keys(record)
        return self._annotation(record, self._size(record, own[0]) if own else None)

    def _size(self, record: dict, image: str) -> tuple[int, int]:
        """Return height and width, from the row or else from the image's head."""
        sides = record.get("height"), record.get("width")
        if all(isinstance(side, int) and side > 0 for side in sides):
            return sides
        path = resolve_image_path(image, self.image_root, self.data_root)
        if not os.path.isfile(path):
            raise ValueError(f"image '{path}' does not exist.")
        try:
            with PIL.Image.open(path) as opened:
                return opened.height, opened.width
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"image '{path}' cannot be opened: {error}") from error


def _is_flat(region: Region) -> bool:
    """Whether a mask has no pixel, so that its box says nothing."""
    return region.kind == "mask" and not region.boxes.xyxy.any()


def damaged(record_id: Any, reason: str) -> dict:
    """Return the row that stands for a record that cannot be used."""
    return {"id": str(record_id), "image": None, DAMAGED: reason}


def _count_words(value: Any) -> int:
    """Count the words of all texts in a row: a length to group by."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, dict):
        return sum(map(_count_words, value.values()))
    if isinstance(value, list):
        return sum(map(_count_words, value))
    return 0
