"""Reader of detection and instance files in COCO's JSON; other sets build on it."""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Instance

from .annotated import AnnotatedImageDataset, damaged
from .annotation_files import need, pixel_box
from .json_sections import scan_sections
from .refcoco import masks_of

_TABLES = ("images", "annotations", "categories")
_BAD_INSTANCES = ("raise", "leave_out")
# What instances say in fields of their own.
_OWN_FIELDS = ("bbox", "segmentation", "iscrowd", "id", "image_id", "category")


@DATASETS.register_module()
class CocoDetectionDataset(AnnotatedImageDataset):
    """COCO's ``instances_train2017.json`` and whatever is written like it.

    The file is ``{"images": [{"id", "file_name", "width", "height"}], "annotations":
    [{"id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd"}],
    "categories": [{"id", "name", "supercategory"}]}``. There is a sample per picture,
    in the file's order, those without annotations included (their task has nothing to
    ask, which is counted). The file is read as a stream, once; rows are kept.

    Boxes ``x, y, w, h`` in pixels become corners, the far edge being ``x + w``, and are
    cut to the picture (``meta["uncut_box"]``). Masks are polygons or run lengths,
    compressed or not. Crowds are instances with ``is_crowd``. An instance's ``meta``
    holds ``category`` (id, name, supercategory, ...) and every field of the annotation
    that has no place of its own.

    An annotation of a picture that is not listed, and a picture listed twice, is a
    damaged record of its own. mmpretrain has no detection reader; mmdet's is no
    dependency.

    Paper: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.

    Args:
        ann_file (str): for example ``annotations/instances_train2017.json``.
        bad_instances (str): what an annotation does that cannot be used (a box of no
            extent, outside or not finite, a damaged mask, an unknown category):
            ``raise`` makes its picture a damaged record; ``leave_out`` keeps the
            picture without it, listed with its reason in ``meta["left_out"]``.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for another ``bad_instances``; naming the file, when it is cut, no
            JSON, not UTF-8 or lacks a table, or when a category is damaged.

    """

    default_task: ClassVar[dict] = dict(type="SemanticSegmentation")

    def __init__(
        self, ann_file: str, *, bad_instances: str = "raise", **kwargs: Any
    ) -> None:
        if bad_instances not in _BAD_INSTANCES:
            raise ValueError(
                f"bad_instances='{bad_instances}': expected one of {_BAD_INSTANCES}."
            )
        self.bad_instances = bad_instances
        super().__init__(ann_file, **kwargs)

    # What dialects change ---------------------------------------------------

    def _image_path(self, image: dict) -> str:
        """Return the picture's path below ``image_prefix``."""
        return need(image, "file_name", str)

    def _name(self, category: dict) -> tuple[str, dict]:
        """Return what a category is called, and what goes into an instance's meta."""
        return category["name"].strip(), {}

    def _image_meta(self, image: dict, names: dict[Any, str]) -> dict:
        """Return what a row says of its picture beside path and size."""
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

        return tables.rows(row_of)

    def _num_words(self, record: dict) -> int:
        # What is said grows with what is marked; the row's own texts are not said.
        return len(record.get("annotations") or ())

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        instances, left_out = [], []
        for number, annotation in enumerate(row["annotations"]):
            try:
                instances.append(self._instance(annotation, size))
            except ValueError as error:
                given = annotation.get("id") if isinstance(annotation, dict) else None
                name = number if given is None else given
                if self.bad_instances == "raise":
                    raise ValueError(f"annotation {name}: {error}") from error
                left_out.append((name, str(error)))
        meta = dict(row["meta"])
        if left_out:
            meta["left_out"] = left_out
        return AnnotatedImage(
            row["image"], size, tuple(instances), id=str(row["id"]), meta=meta
        )

    def _instance(self, annotation: dict, size: tuple[int, int]) -> Instance:
        category = annotation.get("category") if isinstance(annotation, dict) else None
        if category is None:
            given = need(annotation, "category_id", (int, str))
            raise ValueError(f"'category_id' {given!r} is not among the categories.")
        box, uncut = pixel_box(
            need(annotation, "bbox", list), size, form="xywh", what="bbox"
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


class _Tables:
    """The places of pictures and annotations in a file, joined by picture.

    Memory holds numbers only: 20 bytes per annotation.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.categories: dict[Any, dict] = {}
        self._order: dict[Any, int] = {}
        self._spans = {name: (array("q"), array("q")) for name in _TABLES[:2]}
        # A picture's number, or -1; pictures may come behind their annotations.
        self._owners: list[Any] | array = array("q")
        self._twice: list[int] = []
        for item in scan_sections(path, _TABLES):
            if item.section == "categories":
                self._add_category(item.value)
                continue
            starts, ends = self._spans[item.section]
            if item.section == "images":
                self._add_image(item.value, len(starts))
            else:
                self._add_owner(item.value)
            starts.append(item.start)
            ends.append(item.end)

    def _add_category(self, category: Any) -> None:
        try:
            key = need(category, "id", (int, str))
            need(category, "name", str)
            if key in self.categories:
                raise ValueError(f"id {key!r} comes twice.")
        except ValueError as error:
            raise ValueError(
                f"annotation file '{self.path}', category {len(self.categories)}: "
                f"{error}"
            ) from error
        self.categories[key] = category

    def _add_image(self, image: Any, number: int) -> None:
        key = _key(image, "id")
        if key is not None and self._order.setdefault(key, number) != number:
            self._twice.append(number)

    def _add_owner(self, annotation: Any) -> None:
        key = _key(annotation, "image_id")
        if isinstance(self._owners, array):
            if isinstance(key, int) and abs(key) < 2**62:
                self._owners.append(key)
                return
            self._owners = list(self._owners)  # ids that are texts
        self._owners.append(key)

    def rows(self, row_of: Callable[[dict], dict]) -> Iterable[dict]:
        """Yield a row per picture, then what belongs to none.

        Args:
            row_of (Callable): makes a row of an entry of ``images``; what it raises
                as ValueError makes the row a damaged one.

        """
        owners = [self._order.get(key, -1) for key in self._owners]
        owners = np.array(owners, dtype=np.int64)
        own = np.argsort(owners, kind="stable")
        images = len(self._spans["images"][0])
        borders = np.searchsorted(owners[own], np.arange(images + 1))
        with (
            open(self.path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            for number in range(images):
                image = self._read(data, "images", number)
                given = own[borders[number] : borders[number + 1]].tolist()
                given = [self._read(data, "annotations", one) for one in given]
                yield self._row(image, number, given, row_of)
            for one in own[: borders[0]].tolist():
                yield _orphan(self._read(data, "annotations", one))

    def _read(self, data: mmap.mmap, table: str, number: int) -> Any:
        starts, ends = self._spans[table]
        return json.loads(data[starts[number] : ends[number]])

    def _row(
        self, image: Any, number: int, annotations: list, row_of: Callable
    ) -> dict:
        name = image.get("id", "") if isinstance(image, dict) else ""
        try:
            need(image, "id", (int, str))
            if number in self._twice:
                raise ValueError(f"id {name!r} comes twice.")
            row = row_of(image)
        except ValueError as error:
            return damaged(name, f"entry {number} of 'images': {error}")
        return {**row, "annotations": [self._with_category(a) for a in annotations]}

    def _with_category(self, annotation: dict) -> dict:
        key = _key(annotation, "category_id")
        category = self.categories.get(key)
        return annotation if category is None else {**annotation, "category": category}


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
