"""Reader of RefCOCO, RefCOCO+, RefCOCOg and RefClef in their own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import beside, need, pixel_box, read_json
from mmvlm.datasets.io.json_sections import scan_sections
from mmvlm.datasets.io.safe_pickle import load_plain_pickle
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Instance
from mmvlm.structures.masks import check_polygons, check_rle, merge_rles

PER = ("sentence", "ref", "image")
TEXTS = ("sent", "raw")
_TABLES = ("images", "annotations", "categories")


@DATASETS.register_module()
class RefCOCODataset(AnnotatedImageDataset):
    """Expressions that mean one object of an image.

    Two files lie in one folder, as the authors' archives have them::

        refcoco/refs(unc).p        # pickle, Python 2: who calls which object what
        refcoco/instances.json     # COCO: images, annotations, categories

    ``unc`` is the way of splitting: ``unc`` or ``google`` for refcoco and refcoco+,
    ``umd`` or ``google`` for refcocog, ``unc`` or ``berkeley`` for refclef. A ref is
    ``{"ref_id", "ann_id", "image_id", "category_id", "split", "sentences": [{"raw",
    "sent", "sent_id", "tokens"}]}``. Boxes ``x, y, w, h`` become corners, the far
    edge being ``x + w``. Masks are kept with their objects.

    The pickle is read by :func:`load_plain_pickle`, which runs nothing. mmpretrain's
    ``RefCOCO`` reads the same files, but with a plain ``pickle.load`` and without
    masks, so it is not used here.

    Source: github.com/lichengunc/refer. Paper: Kazemzadeh et al., "ReferItGame",
    EMNLP 2014; Yu et al., "Modeling Context in Referring Expressions", ECCV 2016,
    arXiv 1608.00272; Mao et al., "Generation and Comprehension of Unambiguous Object
    Descriptions", CVPR 2016, arXiv 1511.02283.

    Args:
        ann_file (str): ``refcoco/refs(unc).p``.
        split (str | Sequence[str]): ``train``, ``val``, ``test``, ``testA`` (people),
            ``testB`` (other things), or several. ``test`` takes all test splits, and
            ``testA`` also refclef's ``testAB`` and ``testAC``.
        per (str): a sample per ``sentence``, per ``ref`` (all sentences of an
            object) or per ``image`` (all objects of an image that are referred to).
        text_field (str): ``sent`` (lower case, no punctuation) or ``raw``.
        instances_file (str): in the folder of ``ann_file``.
        **kwargs: see :class:`AnnotatedImageDataset`. ``image_prefix`` is the folder
            of COCO's ``train2014``, or of refclef's ``saiapr_tc-12``.

    Raises:
        ValueError: for an unknown ``per`` or ``text_field``, no ref in the split, or
            a file that cannot be read, naming it.
    """

    default_task: ClassVar[dict] = dict(type="ReferringComprehension")

    def __init__(
        self,
        ann_file: str,
        *,
        split: str | Sequence[str] = "train",
        per: str = "sentence",
        text_field: str = "sent",
        instances_file: str = "instances.json",
        **kwargs: Any,
    ) -> None:
        if per not in PER or text_field not in TEXTS:
            raise ValueError(
                f"per={per!r}, text_field={text_field!r}: expected one of {PER} and "
                f"one of {TEXTS}."
            )
        self.splits = (split,) if isinstance(split, str) else tuple(split)
        self.per = per
        self.text_field = text_field
        self.instances_file = instances_file
        super().__init__(ann_file, **kwargs)

    def _sources(self) -> list[str]:
        return [self.ann_file, beside(self.ann_file, self.instances_file)]

    def _row_options(self) -> dict:
        return dict(splits=self.splits, per=self.per, text_field=self.text_field)

    def _flatten(self) -> Iterator[dict]:
        refs = read_refs(self.ann_file)
        requested = {key for ref in refs for key in self._ann_ids(ref) if is_id(key)}
        tables = RefTables(self._sources()[1], requested)
        images: dict[Any, dict] = {}
        for number, ref in enumerate(refs):
            ref_id = str(ref.get("ref_id", number)) if isinstance(ref, dict) else ""
            try:
                if not self._is_selected(need(ref, "split", str)):
                    continue
                rows = self._rows(ref, ref_id, tables)
            except ValueError as error:
                yield damaged(ref_id, f"ref {number}: {error}")
                continue
            if self.per != "image":
                yield from rows
                continue
            for row in rows:
                first = images.setdefault(row["image"], row)
                if first is not row:
                    self._join(first, row)
        for row in images.values():
            yield {**row, "id": str(self._image_id(row))}

    def _ann_ids(self, ref: Any) -> list:
        """Return the ids of the objects that a ref names."""
        return [_ann_id(ref)]

    def _join(self, first: dict, other: dict) -> None:
        """Add one row of an image to another."""
        first["objects"] += other["objects"]

    def _image_id(self, row: dict) -> int | str:
        return row["objects"][0]["image_id"]

    def _is_selected(self, split: str) -> bool:
        """Whether a ref's split is one of those asked for; no one may be lost."""
        if any(in_split(split, requested) for requested in self.splits):
            return True
        if split not in ("train", "val") and not split.startswith("test"):
            raise ValueError(f"'split' is {split!r:.40}, expected train, val or test.")
        return False

    def _rows(self, ref: dict, ref_id: str, tables: RefTables) -> list[dict]:
        """Return the rows of one ref: one, or one per sentence."""
        image, thing = tables.join(ref)
        sentences = need(ref, "sentences", list)
        texts = [sentence_text(sentence, self.text_field) for sentence in sentences]
        if not texts:
            raise ValueError("'sentences' is empty.")
        thing |= dict(ref_id=need(ref, "ref_id", (int, str)), split=ref["split"])
        if self.per != "sentence":
            ids = [need(sentence, "sent_id", (int, str)) for sentence in sentences]
            thing |= dict(phrases=texts, sent_ids=ids)
            return [{"id": ref_id, **image, "objects": [thing]}]
        rows = []
        for sentence, text in zip(sentences, texts, strict=True):
            sent_id = need(sentence, "sent_id", (int, str))
            one = {**thing, "phrases": [text], "sent_ids": [sent_id]}
            rows.append({"id": str(sent_id), **image, "objects": [one]})
        return rows

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        things = row["objects"]
        instances = tuple(_instance(one, size, self.evaluate) for one in things)
        first = things[0]
        meta = {key: first[key] for key in ("image_id", "split") if key in first}
        if self.per != "image":
            meta |= {key: first[key] for key in ("ref_id", "ann_id")}
        if self.per == "sentence":
            meta["question_id"] = first["sent_ids"][0]
            meta["expression"] = first["phrases"][0]
        else:
            meta["question_id"] = first["ref_id" if self.per == "ref" else "image_id"]
        return AnnotatedImage(row["image"], size, instances, id=row["id"], meta=meta)


class RefTables:
    """Images, annotations and categories of ``instances.json``, by id.

    Args:
        path (str): the file.
        requested (set): ids of annotations to keep; three of four are of objects that
            no one refers to.
    """

    def __init__(self, path: str, requested: set) -> None:
        found: dict[str, dict] = {name: {} for name in _TABLES}
        for section, record, *_ in scan_sections(path, _TABLES):
            key = record.get("id") if isinstance(record, dict) else None
            if section == "annotations" and not (is_id(key) and key in requested):
                continue
            if is_id(key):
                found[section][key] = record
        self.images, self.annotations, self.categories = found.values()

    def join(self, ref: dict) -> tuple[dict, dict]:
        """Return what rows say of a ref's image and of its object."""
        thing = self.thing(need(ref, "ann_id", (int, str)), ref.get("image_id"))
        return self.image(thing["image_id"]), thing

    def thing(self, ann_id: int | str, image_id: int | str | None = None) -> dict:
        """Return what rows say of an object.

        Raises:
            ValueError: when there is no such annotation, or in another image.
        """
        annotation = self.annotations.get(ann_id)
        if annotation is None:
            raise ValueError(f"'ann_id' {ann_id} is not among the annotations.")
        own = need(annotation, "image_id", (int, str))
        if image_id not in (None, own):
            raise ValueError(
                f"'image_id' is {image_id!r}, but {own} in annotation {ann_id}."
            )
        category_id = annotation.get("category_id")
        category = self.categories.get(category_id, {}) if is_id(category_id) else {}
        return dict(
            image_id=own,
            ann_id=ann_id,
            bbox=need(annotation, "bbox", list),
            category=str(category.get("name", "")),
            segmentation=annotation.get("segmentation"),
            iscrowd=bool(annotation.get("iscrowd")),
        )

    def image(self, image_id: int | str) -> dict:
        """Return what rows say of an image; ValueError when it is not there."""
        image = self.images.get(image_id)
        if image is None:
            raise ValueError(f"'image_id' {image_id} is not among the images.")
        return dict(
            image=need(image, "file_name", str),
            width=image.get("width"),
            height=image.get("height"),
        )


def read_refs(path: str) -> list:
    """Return the refs of a pickle, or of a file in JSON.

    Raises:
        ValueError: naming the file, when it holds no list or cannot be read.
    """
    if path.endswith(".json"):
        return read_json(path, list)
    refs = load_plain_pickle(path)
    if not isinstance(refs, list):
        raise ValueError(
            f"pickle '{path}' holds a {type(refs).__name__}, expected the list of refs."
        )
    return refs


def in_split(own: str, requested: str) -> bool:
    """Whether a ref of the split ``given`` belongs to the split ``wanted``.

    Example:
        >>> in_split("testAB", "testA"), in_split("testB", "test")
        (True, True)
        >>> in_split("train", "val")
        False
    """
    if own == requested:
        return True
    if not own.startswith("test") or not requested.startswith("test"):
        return False
    letters = requested.removeprefix("test")
    return not letters or (len(letters) == 1 and letters in own.removeprefix("test"))


def masks_of(
    segmentation: Any, size: tuple[int, int]
) -> tuple[tuple[tuple[float, ...], ...], dict | None]:
    """Return polygons and run lengths of COCO's field ``segmentation``.

    It is a list of polygons, or run lengths; refclef has a list of run lengths,
    which are joined.

    Raises:
        ValueError: when they are damaged.
    """
    if not segmentation:
        return (), None
    if isinstance(segmentation, dict):
        return (), check_rle(segmentation, size)
    if isinstance(segmentation, list) and isinstance(segmentation[0], dict):
        return (), merge_rles([check_rle(part, size) for part in segmentation])
    return check_polygons(segmentation, size), None


def is_id(value: Any) -> bool:
    """Whether a value can be the key of a table."""
    return isinstance(value, int | str)


def _ann_id(ref: Any) -> Any:
    return ref.get("ann_id") if isinstance(ref, dict) else None


def sentence_text(sentence: Any, field: str) -> str:
    """Return the words of a sentence; ValueError when there are none."""
    text = need(sentence, field, str).strip()
    if not text:
        raise ValueError(f"'{field}' of a sentence is empty.")
    return text


def _instance(thing: dict, size: tuple[int, int], keep: bool) -> Instance:
    own = dict(ref_id=thing["ref_id"], sent_ids=thing["sent_ids"])
    return ref_instance(thing, size, keep, phrases=tuple(thing["phrases"]), meta=own)


def ref_instance(
    thing: dict,
    size: tuple[int, int],
    keep: bool,
    *,
    phrases: tuple[str, ...] = (),
    meta: dict | None = None,
) -> Instance:
    """Return the instance of an object of :class:`RefTables`.

    Args:
        thing (dict): see :meth:`RefTables.thing`.
        size (tuple[int, int]): height and width of its image.
        keep (bool): boxes that cannot be used are kept, see :func:`pixel_box`.
        phrases (tuple[str, ...]): that mean it.
        meta (dict | None): what else is said of it.

    Raises:
        ValueError: for a box or a mask that cannot be used.
    """
    box, uncut = pixel_box(thing["bbox"], size, form="xywh", what="bbox", keep=keep)
    polygons, rle = masks_of(thing["segmentation"], size)
    return Instance(
        box=box,
        name=thing["category"],
        phrases=phrases,
        polygons=polygons,
        rle=rle,
        id=str(thing["ann_id"]),
        is_crowd=thing["iscrowd"],
        meta=dict(meta or {}, **uncut),
    )
