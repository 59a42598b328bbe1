"""Reader of Visual Genome: regions, objects, attributes and relations."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import (
    InstanceList,
    beside,
    need,
    stream_json_array,
)
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Relation

PER = ("image", "region")
#: What an item of a file may annotate its image with.
_PARTS = ("regions", "objects", "attributes", "relationships")


@DATASETS.register_module()
class VisualGenomeDataset(AnnotatedImageDataset):
    """Images with described regions, objects, attributes and relations.

    The files are lists with one item per image, all in the same order::

        region_descriptions.json   [{"id": 1, "regions": [{"region_id", "image_id",
                                     "x", "y", "width", "height", "phrase"}]}]
        objects.json               [{"image_id": 1, "objects": [{"object_id", "x", "y",
                                     "w", "h", "names"}]}]
        attributes.json            [{"image_id": 1, "attributes": [{"object_id",
                                     "attributes", ...}]}]
        relationships.json         [{"image_id": 1, "relationships": [{"predicate",
                                     "subject": {...}, "object": {...}}]}]
        image_data.json            [{"image_id": 1, "width", "height", "url"}]

    Older releases say ``name`` for ``names``, ``id`` for ``image_id`` or
    ``object_id``, and ``subject_id``; sides are ``w, h`` or ``width, height`` anywhere.
    Files of a gigabyte are read as a stream, once, item by item.

    Objects come first among the instances (with ``name``), then regions (with a
    phrase and without a name). An object that only a relation names is added. Boxes
    ``x, y, w, h`` become corners.
    A region, object or relation that cannot be used is left out and counted in
    ``meta["left_out"]``.

    Source: visualgenome.org. Paper: Krishna et al., "Visual Genome", IJCV 2017, arXiv
    1602.07332.

    Args:
        ann_file (str): one of the first four files.
        also (Sequence[str]): more of them, in the folder of ``ann_file``.
        image_data (str | None): file of the images' sizes, in that folder; None
            reads sizes from the images.
        per (str): a sample per ``image``, or per ``region`` (needs regions).
        with_folder (bool): images lie in ``VG_100K`` and ``VG_100K_2``, as the urls
            of ``image_data`` say; default: in one folder, named by id.
        image_suffix (str): of the images.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for an unknown option, files that are damaged or not in the same
            order, naming file and item.
    """

    default_task: ClassVar[dict] = dict(type="RegionCaption")

    def __init__(
        self,
        ann_file: str,
        *,
        also: Sequence[str] = (),
        image_data: str | None = None,
        per: str = "image",
        with_folder: bool = False,
        image_suffix: str = ".jpg",
        **kwargs: Any,
    ) -> None:
        if per not in PER:
            raise ValueError(f"per={per!r}: expected one of {PER}.")
        if with_folder and image_data is None:
            raise ValueError("with_folder=True needs image_data, which has the urls.")
        self.also = (also,) if isinstance(also, str) else tuple(also)
        self.image_data = image_data
        self.per = per
        self.with_folder = with_folder
        self.image_suffix = image_suffix
        super().__init__(ann_file, **kwargs)

    def _sources(self) -> list[str]:
        names = (*self.also, *filter(None, [self.image_data]))
        return [self.ann_file, *(beside(self.ann_file, name) for name in names)]

    def _row_options(self) -> dict:
        return dict(
            image_data=self.image_data is not None,
            per=self.per,
            with_folder=self.with_folder,
            image_suffix=self.image_suffix,
        )

    def _flatten(self) -> Iterator[dict]:
        paths, images = self._sources(), {}
        if self.image_data is not None:
            images = _images(paths.pop())
        streams = [stream_json_array(path) for path in paths]
        for number, items in enumerate(zip_longest(*streams)):
            image_id = _same_image(items, number, paths)
            if image_id is None:
                yield damaged(f"item {number}", f"item {number} names no image.")
                continue
            try:
                rows = self._rows(image_id, items, images.get(image_id, {}))
            except ValueError as error:
                rows = [damaged(image_id, str(error))]
            yield from rows

    def _rows(self, image_id: int, items: tuple, image: dict) -> list[dict]:
        """Return the row of an image, or those of its regions."""
        parts: dict[str, list] = {}
        for item in items:
            for name in _PARTS:
                if name in item:
                    parts[name] = need(item, name, list)
        row = dict(
            id=str(image_id),
            image=self._path(image_id, image),
            width=image.get("width"),
            height=image.get("height"),
            image_id=image_id,
        )
        regions = [_region(value) for value in parts.get("regions", ())]
        if self.per == "region":
            return [
                {**row, "id": region["id"] or row["id"], "regions": [region]}
                for region in regions
            ]
        attributes = _attributes(parts.get("attributes", ()))
        objects = [_object(value, attributes) for value in parts.get("objects", ())]
        relations = [_relation(value) for value in parts.get("relationships", ())]
        return [{**row, "regions": regions, "objects": objects, "relations": relations}]

    def _path(self, image_id: int, image: dict) -> str:
        name = f"{image_id}{self.image_suffix}"
        if self.with_folder:
            folder = str(image.get("url", "")).rstrip("/").split("/")[-2:-1]
            name = "/".join([*folder, name])
        return name

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        instances = InstanceList(size, keep=self.evaluate)
        places: dict[str, int] = {}
        for thing in row.get("objects", ()):
            _add_object(instances, places, thing)
        relations, lost = [], Counter()
        for relation in row.get("relations", ()):
            ends = [
                places.get(end["id"])
                if end["id"] in places or not end["box"]
                else _add_object(instances, places, end)
                for end in (relation["subject"], relation["object"])
            ]
            if None in ends or not relation["predicate"]:
                lost["relation"] += 1
                continue
            relations.append(Relation(ends[0], relation["predicate"], ends[1]))
        for region in row["regions"] if "regions" in row else ():
            if not region["phrase"]:
                lost["no phrase"] += 1
                continue
            phrases = (region["phrase"],)
            instances.add(region["box"], form="xywh", phrases=phrases, id=region["id"])
        instances.left_out += lost
        return AnnotatedImage(
            row["image"],
            size,
            tuple(instances.items),
            tuple(relations),
            id=row["id"],
            meta=dict(image_id=row["image_id"], **instances.meta),
        )


def _add_object(instances: InstanceList, places: dict, thing: dict) -> int | None:
    """Add an object and remember where it is, also that it cannot be used."""
    names = thing["names"]
    index = instances.add(
        thing["box"],
        form="xywh",
        name=names[0] if names else "",
        attributes=tuple(thing.get("attributes", ())),
        id=thing["id"],
        meta={"names": names} if len(names) > 1 else {},
    )
    if thing["id"]:
        places.setdefault(thing["id"], index)
    return index


def _images(path: str) -> dict[int, dict]:
    """Return size and url of every image by its id."""
    found = {}
    for number, item in enumerate(stream_json_array(path)):
        image_id = _image_of(item)
        if image_id is None:
            raise ValueError(f"'{path}': item {number} has no 'image_id'.")
        found[image_id] = {key: item.get(key) for key in ("width", "height", "url")}
    return found


def _image_of(item: Any) -> int | None:
    """Return the number of the image that an item of any file is about."""
    if not isinstance(item, dict):
        return None
    regions = item.get("regions")
    inner = regions[0] if isinstance(regions, list) and regions else {}
    inner = inner if isinstance(inner, dict) else {}
    for value in (item.get("image_id"), item.get("id"), inner.get("image_id")):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _same_image(items: tuple, number: int, paths: Sequence[str]) -> int | None:
    """Return the image that all files speak of in their ``number``-th items."""
    found = [_image_of(item) for item in items]
    if len(set(found)) > 1:
        listing = ", ".join(
            f"{'nothing' if one is None else one} in '{os.path.basename(path)}'"
            for one, path in zip(found, paths, strict=True)
        )
        raise ValueError(
            f"item {number} is about different images: {listing}. The files must "
            "have the same images in the same order; take them from one release."
        )
    return found[0]


def _texts(*values: Any) -> list[str]:
    """Return the texts among values and lists of values, stripped, none empty."""
    flat: list[Any] = []
    for value in values:
        flat += value if isinstance(value, list) else [value]
    return [text.strip() for text in flat if isinstance(text, str) and text.strip()]


def _number_of(record: Any, *fields: str) -> str:
    for field in fields:
        if isinstance(record, dict) and record.get(field) is not None:
            return str(record[field])
    return ""


def _box(record: Any) -> list | None:
    """Return x, y, width and height, as new and old releases name them."""
    if not isinstance(record, dict):
        return None
    sides = [
        record.get("w", record.get("width")),
        record.get("h", record.get("height")),
    ]
    return [record.get("x"), record.get("y"), *sides]


def _region(record: Any) -> dict:
    phrase = _texts(record.get("phrase")) if isinstance(record, dict) else []
    return dict(
        id=_number_of(record, "region_id", "id"),
        box=_box(record),
        phrase=phrase[0] if phrase else "",
    )


def _object(record: Any, attributes: dict[str, list[str]] | None = None) -> dict:
    known = record if isinstance(record, dict) else {}
    number = _number_of(known, "object_id", "id")
    thing = dict(
        id=number, box=_box(known), names=_texts(known.get("names"), known.get("name"))
    )
    own = _texts(known.get("attributes"))
    if attributes is not None and (own or number in attributes):
        thing["attributes"] = own or attributes[number]
    return thing


def _attributes(records: Sequence) -> dict[str, list[str]]:
    found = {}
    for record in records:
        texts = _texts(record.get("attributes")) if isinstance(record, dict) else []
        if texts:
            found[_number_of(record, "object_id", "id")] = texts
    return found


def _relation(record: Any) -> dict:
    known = record if isinstance(record, dict) else {}
    predicate = _texts(known.get("predicate"))
    ends = {}
    for end in ("subject", "object"):
        if isinstance(known.get(end), dict):
            ends[end] = _object(known[end])
        else:
            ends[end] = dict(id=_number_of(known, f"{end}_id"), box=None, names=[])
    return dict(predicate=predicate[0] if predicate else "", **ends)
