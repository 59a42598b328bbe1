"""Reader of MDETR's COCO-like files: referring expressions and Flickr30k."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import InstanceList, need, need_text, read_json
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Caption, Span

from .refcoco import masks_of

KINDS = ("auto", "expression", "caption")


@DATASETS.register_module()
class MDETRDataset(AnnotatedImageDataset):
    """Texts about images with boxes, in the files that MDETR made.

    Each entry of ``images`` is an image with one text, so an image comes often::

        {"images": [{"id": 0, "file_name": "COCO_train2014_000000000009.jpg",
                     "height": 480, "width": 640, "caption": "the bowl",
                     "dataset_name": "refcoco", "original_id": 9}],
         "annotations": [{"id": 0, "image_id": 0, "bbox": [x, y, w, h],
                          "tokens_positive": [[0, 8]], "category_id": 1}]}

    ``finetune_refcoco_train.json`` (``refcoco+``, ``refcocog``; ``val``, ``testA``):
    the text is an expression that means the one annotation of its entry.
    ``final_flickr_separateGT_val.json`` (a box per thing, ANY-BOX) and
    ``final_flickr_mergedGT_val.json`` (a box around all, MERGED-BOXES): the text is a
    caption, ``tokens_positive`` says which characters a box belongs to, and
    ``tokens_positive_eval`` of the entry lists the phrases that are evaluated, in
    order: these come first among the spans. A phrase of several pieces is a span per
    piece.

    Source: github.com/ashkamath/mdetr. Paper: Kamath et al., "MDETR", ICCV 2021, arXiv
    2104.12763.

    Args:
        ann_file (str): see above.
        kind (str): ``expression`` or ``caption``; ``auto``: a caption where an entry
            has ``tokens_positive_eval`` or several annotations, or is Flickr30k's.
        **kwargs: see :class:`AnnotatedImageDataset`. The default task fits
            expressions; captions want ``PhraseGrounding`` or ``GroundedCaption``.

    Raises:
        ValueError: for an unknown kind, or a file that cannot be read, naming it.
    """

    default_task: ClassVar[dict] = dict(type="ReferringComprehension")

    def __init__(self, ann_file: str, *, kind: str = "auto", **kwargs: Any) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: expected one of {KINDS}.")
        self.kind = kind
        super().__init__(ann_file, **kwargs)

    def _flatten(self) -> Iterator[dict]:
        tables = read_json(self.ann_file)
        for name in ("images", "annotations"):
            if not isinstance(tables.get(name), list):
                raise ValueError(
                    f"annotation file '{self.ann_file}': no list '{name}'; expected "
                    f"COCO's layout, found {sorted(tables)!r:.100}."
                )
        of_entry: dict[Any, list[dict]] = {}
        for number, annotation in enumerate(tables["annotations"]):
            try:
                key = need(annotation, "image_id", int)
            except ValueError as error:
                yield damaged(f"annotation {number}", f"annotation {number}: {error}")
                continue
            of_entry.setdefault(key, []).append(annotation)
        for number, entry in enumerate(tables["images"]):
            entry_id = str(entry.get("id", "")) if isinstance(entry, dict) else ""
            try:
                found = of_entry.pop(need(entry, "id", int), [])
                yield {
                    **{key: value for key, value in entry.items() if key[:1] != "_"},
                    "id": entry_id,
                    "image": need_text(entry, "file_name"),
                    "caption": need_text(entry, "caption"),
                    "annotations": found,
                }
            except ValueError as error:
                yield damaged(entry_id, f"image {number}: {error}")
        for key, left in of_entry.items():
            reason = f"{len(left)} annotations are of image {key}, which is not listed."
            yield damaged(key, reason)

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        known = ("id", "image", "file_name", "caption", "width", "height")
        known += ("annotations", "tokens_positive_eval")
        meta = {key: value for key, value in row.items() if key not in known}
        if self._is_caption(row):
            return self._caption(row, size, meta)
        if len(row["annotations"]) != 1:
            raise ValueError(
                f"the expression {row['caption']!r:.60} has {len(row['annotations'])} "
                "annotations, expected one."
            )
        instances = InstanceList(size, strict=True)
        _add(instances, row["annotations"][0], size, phrases=(row["caption"].strip(),))
        return AnnotatedImage(
            row["image"], size, tuple(instances.items), id=row["id"], meta=meta
        )

    def _is_caption(self, row: dict) -> bool:
        if self.kind != "auto":
            return self.kind == "caption"
        named = "flickr" in str(row.get("dataset_name", ""))
        return named or "tokens_positive_eval" in row or len(row["annotations"]) > 1

    def _caption(self, row: dict, size: tuple[int, int], meta: dict) -> AnnotatedImage:
        text = row["caption"]
        evaluated = row.get("tokens_positive_eval") or []
        if not isinstance(evaluated, list):
            raise ValueError(f"'tokens_positive_eval' is no list: {evaluated!r:.60}.")
        pieces: dict[tuple[int, int], list[int]] = {}
        for phrase in evaluated:
            for piece in _pieces(phrase, text, "tokens_positive_eval"):
                pieces.setdefault(piece, [])
        instances = InstanceList(size)
        for annotation in row["annotations"]:
            tokens = need(annotation, "tokens_positive", list)
            places = _pieces(tokens, text, "tokens_positive")
            index = _add(instances, annotation, size)
            for piece in places if index is not None else ():
                pieces.setdefault(piece, []).append(index)
        spans = tuple(Span(*piece, tuple(found)) for piece, found in pieces.items())
        meta |= dict(phrases_to_evaluate=evaluated) if evaluated else {}
        return AnnotatedImage(
            row["image"],
            size,
            tuple(instances.items),
            captions=(Caption(text, spans),),
            id=row["id"],
            meta={**meta, **instances.meta},
        )


def _add(
    instances: InstanceList, annotation: dict, size: tuple[int, int], **fields: Any
) -> int | None:
    polygons, rle = masks_of(annotation.get("segmentation"), size)
    return instances.add(
        annotation.get("bbox"),
        form="xywh",
        polygons=polygons,
        rle=rle,
        id=str(annotation.get("id", "")),
        is_crowd=bool(annotation.get("iscrowd")),
        **fields,
    )


def _pieces(value: Any, text: str, field: str) -> list[tuple[int, int]]:
    """Return the pieces of a phrase, characters from and to.

    Raises:
        ValueError: for a piece outside of the text.
    """
    found = []
    for piece in value if isinstance(value, list) else [value]:
        whole = isinstance(piece, list) and len(piece) == 2
        if not whole or not all(type(place) is int for place in piece):
            raise ValueError(f"'{field}' holds no [start, end]: {piece!r:.60}.")
        start, end = piece
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f"'{field}' names characters {start} to {end} of a caption of "
                f"{len(text)}."
            )
        found.append((start, end))
    return found
