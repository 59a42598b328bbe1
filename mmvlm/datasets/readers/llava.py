"""Reader of LLaVA's format: a JSON list, or one JSON object per line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmvlm.datasets.base import ConversationDataset
from mmvlm.datasets.index.records import JSONLine, JSONRecords
from mmvlm.datasets.index.scanner import first_character, whole_object
from mmvlm.registry import DATASETS
from mmvlm.structures import Conversation
from mmvlm.text.llava_format import MEDIA_FIELDS, parse_llava_conversation

#: Goes up with every change of the words and inputs that are counted here.
_INDEX_VERSION = 2
_MEDIA = frozenset(name + plural for name in MEDIA_FIELDS for plural in ("", "s"))


@dataclass(frozen=True)
class _Unreadable:
    """What stands for a record that is no JSON."""

    reason: str


@DATASETS.register_module()
class LLaVADataset(ConversationDataset):
    """LLaVA conversations, text-only and with any number of images.

    A record is ``{"id", "image", "conversations": [{"from": "human" | "gpt",
    "value"}, ...]}``; ``image`` (or ``images``) is a path, a list of paths, or absent.
    The file holds a list of records, or a record per line.

    Other inputs stand in fields of their own (``video``, ``audio``, ``point``,
    ``rgbd``, ``rgbn``, ``imu``, ``fmri``), their placeholders are ``<video>``, ...: a
    path, or a list of inputs; an input of several files (an image and its depth
    map, frames) is itself a list of paths: ``"rgbd": [["a.png", "a_depth.png"]]``.

    The first opening of a large file makes an index (see
    :class:`~mmvlm.datasets.index.records.JSONRecords`); records are parsed when they
    are asked for. A list that is damaged or cut fails at once, and so do lines that
    are cut, whatever the policy for bad samples; a damaged line among whole ones
    follows the policy (and fails at once under ``raise``).

    Args:
        ann_file (str): annotation file.
        collapse_image_tags (bool): LLaVA's own rule for several ``<image>`` in one
            text: they become one. Default: every tag is an image.
        drop_leading_answer (bool): leave out a first turn by ``gpt``, as LLaVA does
            (counted per sample in ``meta['dropped_turns']``).
        **kwargs: see :class:`ConversationDataset`.
    """

    media_names = MEDIA_FIELDS

    def __init__(
        self,
        ann_file: str,
        *,
        collapse_image_tags: bool = False,
        drop_leading_answer: bool = True,
        **kwargs: Any,
    ) -> None:
        self._parse_options = dict(
            collapse_image_tags=collapse_image_tags,
            drop_leading_answer=drop_leading_answer,
        )
        super().__init__(ann_file, **kwargs)

    def _load_records(self) -> JSONRecords:
        first, head = first_character(self.ann_file)
        if first not in ("[", "{"):
            found = f"starts with {head!r}" if head else "is empty"
            raise ValueError(
                f"annotation file '{self.ann_file}' {found}; expected a JSON list of "
                "records or one JSON object per line."
            )
        records = JSONRecords(
            self.ann_file,
            "list" if first == "[" else "lines",
            describe=self._describe,
            reader=[type(self).__name__, _INDEX_VERSION, *self._index_options()],
        )
        bad = records.first_damaged
        strict = self.bad_samples.policy == "raise"
        if bad is not None and (strict or bad == 0 or records.is_cut):
            whole = whole_object(self.ann_file) if bad == 0 else None
            if whole is not None:
                raise ValueError(whole)
            bad = len(records) - 1 if records.is_cut else bad
            hint = "Repair the file there."
            if records.is_cut:
                hint = "The file ends too early: it was cut; fetch or write it again."
            raise ValueError(f"annotation file: {records[bad].reason} {hint}")
        return records

    def _index_options(self) -> tuple[str, ...]:
        """Return what counted words and questions depend on besides the class."""
        return ()

    def _from_line(self, line: JSONLine) -> Any:
        return line.value if line.reason is None else _Unreadable(line.reason)

    def _record_id(self, record: Any) -> str:
        return str(record.get("id", "")) if isinstance(record, dict) else ""

    def _image_keys(self, record: Any) -> tuple:
        if not isinstance(record, dict):
            return ()
        name, image = _field(record, "image")
        images = [] if image is None else image
        images = [images] if isinstance(images, str) else images
        if not isinstance(images, list) or not all(
            isinstance(path, str) and path for path in images
        ):
            raise ValueError(
                f"'{name}' must be a path or a list of paths, got {image!r:.100}."
            )
        return tuple(images)

    def _media_keys(self, record: Any) -> dict[str, tuple]:
        if not isinstance(record, dict) or _MEDIA.isdisjoint(record):
            return {}
        media = {}
        for modality in MEDIA_FIELDS:
            name, value = _field(record, modality)
            items = [] if value is None else value
            items = [items] if isinstance(items, str) else items
            if not isinstance(items, list) or not all(map(_is_input, items)):
                raise ValueError(
                    f"'{name}' must be a path, or a list of inputs, each a path or a "
                    f"list of paths; got {value!r:.100}."
                )
            if items:
                media[modality] = tuple(
                    item if isinstance(item, str) else tuple(item) for item in items
                )
        return media

    def _conversation(
        self, record: Any, images: list, rng: np.random.Generator
    ) -> Conversation:
        if isinstance(record, _Unreadable):
            raise ValueError(record.reason)
        if not isinstance(record, dict):
            raise ValueError(
                f"expected a record (JSON object), got {type(record).__name__} "
                f"{record!r:.100}."
            )
        return parse_llava_conversation(
            record,
            images=images,
            media=self._media_keys(record),
            where="record",
            **self._parse_options,
        )

    def _num_questions(self, record: Any) -> int:
        turns = record.get("conversations") if isinstance(record, dict) else None
        turns = turns if isinstance(turns, list) else []
        speakers = [turn.get("from") for turn in turns if isinstance(turn, dict)]
        return speakers.count("human")

    def _num_words(self, record: Any) -> int:
        turns = record.get("conversations") if isinstance(record, dict) else None
        if not isinstance(turns, list):
            return 0
        values = [turn.get("value") for turn in turns if isinstance(turn, dict)]
        return sum(len(value.split()) for value in values if isinstance(value, str))


def _field(record: dict, name: str) -> tuple[str, Any]:
    """Return a field and its name, which may stand in the plural.

    Raises:
        ValueError: when both are there and say different things.
    """
    one, many = record.get(name), record.get(f"{name}s")
    if one is None and many is not None:
        return f"{name}s", many
    same = many in (None, one) or (isinstance(many, list) and many == [one])
    if one is not None and not same:
        raise ValueError(
            f"'{name}' is {one!r:.60} and '{name}s' is {many!r:.60}; keep one of them."
        )
    return name, one


def _is_input(item: Any) -> bool:
    """Whether an item is a path or a list of paths."""
    paths = item if isinstance(item, list) else [item]
    return bool(paths) and all(isinstance(path, str) and path for path in paths)
