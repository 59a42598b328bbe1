"""Reader of detection and instance files in COCO's JSON; other sets build on it."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import need, pixel_box
from mmvlm.datasets.io.json_sections import SectionItem, scan_sections
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Instance

from .refcoco import masks_of

_TABLES = ("images", "annotations", "categories")
_BAD_INSTANCES = ("raise", "leave_out")
PER = ("image", "instance")
# What instances say in fields of their own.
_OWN_FIELDS = ("bbox", "segmentation", "iscrowd", "id", "image_id", "category")


@DATASETS.register_module()
class CocoDetectionDataset(AnnotatedImageDataset):
    """COCO's ``instances_train2017.json`` and whatever is written like it.

    The file is ``{"images": [{"id", "file_name", "width", "height"}], "annotations":
    [{"id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd"}],
    "categories": [{"id", "name", "supercategory"}]}``. There is a sample per image,
    in the file's order, those without annotations included (their task has nothing to
    ask, which is counted). The file is scanned as a stream, once; what is kept are
    images and the places of their annotations, which are read when asked for.

    Boxes ``x, y, w, h`` in pixels become corners, the far edge being ``x + w``, and are
    cut to the image (``meta["uncut_box"]``). Masks are polygons or run lengths,
    compressed or not. Crowds are instances with ``is_crowd``. An instance's ``meta``
    holds ``category`` (id, name, supercategory, ...) and every field of the annotation
    that has no place of its own.

    An annotation of an image that is not listed, and an image listed twice, is a
    damaged record of its own. mmpretrain has no detection reader; mmdet's is no
    dependency.

    Paper: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.

    Args:
        ann_file (str): for example ``annotations/instances_train2017.json``.
        bad_instances (str): what an annotation does that cannot be used (a box of no
            extent, outside or not finite, a damaged mask, an unknown category):
            ``raise`` makes its image a damaged record; ``leave_out`` keeps the
            image without it, listed with its reason in ``meta["left_out"]``.
        per (str): a sample per ``image``, or per ``instance``, as classes of regions
            are scored; images without one are then left out.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for another ``bad_instances`` or ``per``; naming the file, when it
            is cut, no JSON, not UTF-8 or lacks a table, or when a category is damaged.
    """

    default_task: ClassVar[dict] = dict(type="CategoryDetection")

    def __init__(
        self,
        ann_file: str,
        *,
        bad_instances: str = "raise",
        per: str = "image",
        **kwargs: Any,
    ) -> None:
        if per not in PER:
            raise ValueError(f"per={per!r}: expected one of {PER}.")
        self.per = per
        if bad_instances not in _BAD_INSTANCES:
            raise ValueError(
                f"bad_instances='{bad_instances}': expected one of {_BAD_INSTANCES}."
            )
        self.bad_instances = bad_instances
        self._file = _SourceFile(os.path.join(kwargs.get("data_root") or "", ann_file))
        self._categories: dict[tuple, dict] = {}
        super().__init__(ann_file, **kwargs)

    # What dialects change ---------------------------------------------------

    def _image_path(self, image: dict) -> str:
        """Return the image's path below ``image_prefix``."""
        return need(image, "file_name", str)

    def _name(self, category: dict) -> tuple[str, dict]:
        """Return what a category is called, and what goes into an instance's meta."""
        return category["name"].strip(), {}

    def _image_meta(self, image: dict, names: dict[Any, str]) -> dict:
        """Return what a row says of its image beside path and size."""
        known = ("id", "file_name", "width", "height")
        return {key: image[key] for key in image if key not in known}

    # What the base class needs ---------------------------------------------

    def _flatten(self) -> Iterable[dict]:
        tables = _Tables(self.ann_file)
        try:
            names = {k: self._name(value)[0] for k, value in tables.categories.items()}
        except ValueError as error:
            raise ValueError(f"annotation file '{self.ann_file}': {error}") from error

        def row_of(image: dict) -> dict:
            return dict(
                id=image["id"],
                image=self._image_path(image),
                width=image.get("width"),
                height=image.get("height"),
                meta=self._image_meta(image, names),
            )

        rows = tables.rows(row_of)
        return rows if self.per == "image" else _by_instance(rows)

    def _row_options(self) -> dict:
        return dict(per=self.per)

    def _num_words(self, record: dict) -> int:
        # What is said grows with what is marked; the row's own texts are not said.
        return len(record.get("spans") or ())

    def _record(self, row: int) -> dict:
        record = super()._record(row)
        if "spans" not in record:
            return record
        record["annotations"] = [self._read(*span) for span in record["spans"]]
        return record

    def _read(self, start: int, end: int, *category: int) -> Any:
        """Return an annotation, and in it the category that it names."""
        annotation = self._file.value(start, end)
        if not category or not isinstance(annotation, dict):
            return annotation
        if category not in self._categories:
            self._categories[category] = self._file.value(*category)
        return {**annotation, "category": self._categories[category]}

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        instances, left_out = [], []
        for number, annotation in enumerate(row["annotations"]):
            try:
                instances.append(self._instance(annotation, size))
            except ValueError as error:
                own_id = annotation.get("id") if isinstance(annotation, dict) else None
                name = number if own_id is None else own_id
                if self.bad_instances == "raise":
                    raise ValueError(f"annotation {name}: {error}") from error
                left_out.append((name, str(error)))
        meta = dict(row["meta"])
        if left_out:
            meta["left_out"] = left_out
        if self.per == "instance" and isinstance(row["annotations"][0], dict):
            meta["question_id"] = row["annotations"][0].get("id", row["id"])
        return AnnotatedImage(
            row["image"], size, tuple(instances), id=str(row["id"]), meta=meta
        )

    def _instance(self, annotation: dict, size: tuple[int, int]) -> Instance:
        category = annotation.get("category") if isinstance(annotation, dict) else None
        if category is None:
            own_id = need(annotation, "category_id", (int, str))
            raise ValueError(f"'category_id' {own_id!r} is not among the categories.")
        box, uncut = pixel_box(
            need(annotation, "bbox", list),
            size,
            form="xywh",
            what="bbox",
            keep=self.evaluate,
        )
        try:
            polygons, rle = masks_of(annotation.get("segmentation"), size)
        except ValueError as error:
            raise ValueError(f"'segmentation': {error}") from error
        name, extra = self._name(category)
        rest = {key: annotation[key] for key in annotation if key not in _OWN_FIELDS}
        return Instance(
            box=box,
            name=name,
            polygons=polygons,
            rle=rle,
            id=str(annotation.get("id", "")),
            is_crowd=bool(annotation.get("iscrowd", 0)),
            meta={**rest, "category": category, **extra, **uncut},
        )


def _by_instance(rows: Iterable[dict]) -> Iterator[dict]:
    """Yield a row per annotation; damaged rows stay."""
    for row in rows:
        if "spans" not in row:
            yield row
            continue
        for number, span in enumerate(row["spans"]):
            yield {**row, "id": f"{row['id']}#{number}", "spans": [span]}


class _Tables:
    """The places of images and annotations in a file, joined by image.

    Memory holds numbers only: 32 bytes per annotation.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.categories: dict[Any, dict] = {}
        self._category_spans: dict[Any, tuple[int, int]] = {}
        self._order: dict[Any, int] = {}
        self._spans = {name: (array("q"), array("q")) for name in _TABLES[:2]}
        # Ids of images, which may come behind their annotations, and of categories.
        self._owners, self._kinds = _Ids(), _Ids()
        self._twice: set[int] = set()
        for item in scan_sections(path, _TABLES):
            if item.section == "categories":
                self._add_category(item)
                continue
            starts, ends = self._spans[item.section]
            if item.section == "images":
                self._add_image(item.value, len(starts))
            else:
                self._owners.append(_key(item.value, "image_id"))
                self._kinds.append(_key(item.value, "category_id"))
            starts.append(item.start)
            ends.append(item.end)

    def _add_category(self, item: SectionItem) -> None:
        try:
            key = need(item.value, "id", (int, str))
            need(item.value, "name", str)
            if key in self.categories:
                raise ValueError(f"id {key!r} comes twice.")
        except ValueError as error:
            raise ValueError(
                f"annotation file '{self.path}', category {len(self.categories)}: "
                f"{error}"
            ) from error
        self.categories[key] = item.value
        self._category_spans[key] = (item.start, item.end)

    def _add_image(self, image: Any, number: int) -> None:
        key = _key(image, "id")
        if key is not None and self._order.setdefault(key, number) != number:
            self._twice.add(number)

    def rows(self, row_of: Callable[[dict], dict]) -> Iterator[dict]:
        """Yield a row per image, then what belongs to none.

        Args:
            row_of (Callable): makes a row of an entry of ``images``; what it raises
                as ValueError makes the row a damaged one.
        """
        file = _SourceFile(self.path)
        owners = self._owners.look_up(self._order)
        own = np.argsort(owners, kind="stable")
        starts, ends = self._spans["images"]
        borders = np.searchsorted(owners[own], np.arange(len(starts) + 1)).tolist()
        for number in range(len(starts)):
            image = file.value(starts[number], ends[number])
            spans = own[borders[number] : borders[number + 1]].tolist()
            yield self._row(image, number, [self._span(one) for one in spans], row_of)
        for one in own[: borders[0]].tolist():
            yield _orphan(file.value(*self._span(one)[:2]))

    def _span(self, number: int) -> tuple[int, ...]:
        """Return where an annotation lies, and then where its category does."""
        starts, ends = self._spans["annotations"]
        category = self._category_spans.get(self._kinds[number], ())
        return (starts[number], ends[number], *category)

    def _row(self, image: Any, number: int, spans: list, row_of: Callable) -> dict:
        name = image.get("id", "") if isinstance(image, dict) else ""
        try:
            need(image, "id", (int, str))
            if number in self._twice:
                raise ValueError(f"id {name!r} comes twice.")
            return {**row_of(image), "spans": spans}
        except ValueError as error:
            return damaged(name, f"entry {number} of 'images': {error}")


class _Ids:
    """A long list of ids, small as long as all are whole numbers."""

    def __init__(self) -> None:
        self._ids: list | array = array("q")

    def __getitem__(self, number: int) -> Any:
        return self._ids[number]

    def append(self, key: Any) -> None:
        """Add an id, or None where there is none."""
        small = isinstance(key, int) and abs(key) < 2**62
        if not small and isinstance(self._ids, array):
            self._ids = list(self._ids)
        self._ids.append(key)

    def look_up(self, numbers: dict[Any, int]) -> np.ndarray:
        """Return what each id stands for, -1 where it is unknown."""
        found = (numbers.get(key, -1) for key in self._ids)
        return np.fromiter(found, np.int64, len(self._ids))


class _SourceFile:
    """Reads values at known places; safe to hand to other processes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._handle: int | None = None

    def value(self, start: int, end: int) -> Any:
        """Return the JSON value between two bytes.

        Raises:
            ValueError: naming the file, when it is not what it was.
        """
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDONLY)
        try:
            return json.loads(os.pread(self._handle, end - start, start))
        except ValueError as error:
            raise ValueError(
                f"annotation file '{self.path}' was changed while it was open: bytes "
                f"{start} to {end} are no JSON value ({error})."
            ) from error

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_handle": None}

    def __del__(self, close: Callable = os.close) -> None:  # `os` may be gone by then
        if self.__dict__.get("_handle") is not None:
            close(self._handle)


def _key(record: Any, field: str) -> int | str | None:
    """Return an id that can be looked up; None for anything else."""
    value = record.get(field) if isinstance(record, dict) else None
    ok = isinstance(value, int | str) and not isinstance(value, bool)
    return value if ok else None


def _orphan(annotation: Any) -> dict:
    name, owner = "", None
    if isinstance(annotation, dict):
        name, owner = annotation.get("id", ""), annotation.get("image_id")
    return damaged(
        name, f"annotation {name}: 'image_id' {owner!r:.40} is not among the images."
    )
