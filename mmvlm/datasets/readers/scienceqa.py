"""Reader of ScienceQA."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, ClassVar

from mmengine.logging import print_log

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.json_tables import (
    index_of,
    load_table,
    others_of,
    record_of,
    texts_of,
)
from mmvlm.registry import DATASETS

from .questions import QuestionDataset


@DATASETS.register_module()
class ScienceQADataset(QuestionDataset):
    """ScienceQA: school questions with choices, half of them with an image.

    ``problems.json`` is ``{id: {"question", "choices", "answer" (index), "hint",
    "image" ("image.png" or null), "task", "grade", "subject", "topic", "category",
    "skill", "lecture", "solution", "split"}}``, ``pid_splits.json`` ``{split: [ids]}``.
    Images are ``<split of the problem>/<id>/image.png``. Paper: Lu et al., NeurIPS
    2022.

    The hint of a question is its context, its rationale the solution;
    ``meta['lecture']`` is the lecture. Questions without an image are text alone.

    Args:
        ann_file (str): ``problems.json``.
        split_file (str): ``pid_splits.json``.
        split (str): key of it: ``train``, ``val``, ``test``, ``minitrain``, ...
        with_image (bool | None): only questions with (without) an image; None takes
            both. What it leaves out is counted and logged.
        image_name (str): name of an image, with ``{split}``, ``{image_id}`` and
            ``{file}``; LLaVA's copy is ``{image_id}/{file}``.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: naming a file that cannot be read, or the splits that there are.
    """

    default_task: ClassVar[dict] = dict(type="ScienceQuestion")

    def __init__(
        self,
        ann_file: str,
        *,
        split: str,
        split_file: str = "pid_splits.json",
        with_image: bool | None = None,
        image_name: str = "{split}/{image_id}/{file}",
        **kwargs: Any,
    ) -> None:
        try:
            image_name.format(split="train", image_id="1", file="image.png")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"image_name={image_name!r}: {error!r}.") from error
        self.split, self.split_file = split, split_file
        self.with_image = with_image
        self.images = image_name
        super().__init__(ann_file, **kwargs)

    def _sources(self) -> list[str]:
        return [self.ann_file, self._beside(self.split_file)]

    def _row_options(self) -> dict:
        own = dict(split=self.split, image=self.with_image, names=self.images)
        return {**super()._row_options(), **own}

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        path = self._beside(self.split_file)
        splits = load_table(path, dict)
        if not isinstance(splits.get(self.split), list):
            raise ValueError(f"'{path}' has no split '{self.split}': {sorted(splits)}.")
        problems, left_out = load_table(self.ann_file, dict), 0
        for key in splits[self.split]:
            raw = problems.get(str(key))
            if not isinstance(raw, dict):
                yield key, raw
                continue
            has_image = bool(raw.get("image"))
            if self.with_image is not None and self.with_image != has_image:
                left_out += 1
                continue
            yield key, {**raw, "id": str(key)}
        if left_out:
            print_log(
                f"dataset '{self.name}': with_image={self.with_image} leaves out "
                f"{left_out} of {len(splits[self.split])} questions.",
                logger="current",
                level=logging.INFO,
            )

    def _entries(self, raw: Any) -> list[dict]:
        if raw is None:
            raise ValueError(f"'{self.split_file}' lists it, the problems lack it.")
        raw = record_of(raw)
        choices = texts_of(raw, "choices")
        entry = dict(
            id=raw["id"],
            image=None,
            question=need_text(raw, "question"),
            choices=choices,
        )
        for field, name in (("hint", "hint"), ("rationale", "solution")):
            value = raw.get(name) or ""
            if not isinstance(value, str):
                raise ValueError(f"'{name}' must be a text, got {value!r:.60}.")
            entry[field] = value
        if raw.get("answer") is not None:
            entry["choice"] = index_of(raw, "answer", len(choices))
        if raw.get("image"):
            entry["image"] = self.images.format(
                split=raw.get("split", self.split),
                image_id=raw["id"],
                file=need_text(raw, "image"),
            )
        used = ("id", "question", "choices", "solution", "answer")
        return [{**entry, "meta": others_of(raw, *used)}]
