"""Reader of GranD-f: captions whose phrases have masks (grounded conversations)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import (
    beside,
    need,
    need_text,
    stream_json_array,
)
from mmvlm.datasets.io.json_sections import scan_sections
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Caption, Instance, Span
from mmvlm.structures.masks import (
    check_polygons,
    check_rle,
    merge_rles,
    polygons_to_rle,
    rle_area,
    rle_box,
)


@DATASETS.register_module()
class GranDfDataset(AnnotatedImageDataset):
    """Captions with masked phrases, in the four layouts of GranD-f.

    - ``GranDf_HA_GCG_train.json``, ``OpenPsgGCG_*.json``: a list of ``{"file_name",
      "caption", "groundings": {phrase: {"token_positives": [start, end], "rle_masks":
      [run lengths, ...]}}}``;
    - ``RefCOCOg_GCG_*.json``: a list of ``{id: {"img_file_name", "caption", "refs":
      [{"sentence", "segmentation": polygons}]}}``; the caption is searched for phrases;
    - ``flickr_mergedGT_GCG_*.json``: COCO's tables, ``images`` with ``caption`` and
      ``annotations`` with ``tokens_positive`` and ``sam_mask``;
    - ``val_gcg_coco_caption_gt.json`` with ``masks_file``: tables with ``caption`` and
      ``labels`` per image, and beside it one annotation with a ``segmentation`` per
      label, in the same order. ``meta["reference"]`` has all of them.

    Several masks of a phrase are one. A phrase that its caption lacks, or whose mask
    has no pixel, stays plain text; ``meta["ungrounded"]`` names it. Where phrases
    overlap the longer one that starts first is grounded.

    Source: github.com/mbzuai-oryx/groundingLMM. Paper: Rasheed et al., "GLaMM: Pixel
    Grounding Large Multimodal Model", CVPR 2024, arXiv 2311.03356.

    Args:
        ann_file (str): see above.
        masks_file (str | None): of the last layout, in the folder of ``ann_file``.
        image_suffix (str): of images that the last layout names by their id alone.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for a file that cannot be read, naming it.
    """

    default_task: ClassVar[dict] = dict(type="GroundedCaption", kind="mask")

    def __init__(
        self,
        ann_file: str,
        *,
        masks_file: str | None = None,
        image_suffix: str = ".jpg",
        **kwargs: Any,
    ) -> None:
        self.masks_file, self.image_suffix = masks_file, image_suffix
        super().__init__(ann_file, **kwargs)

    def _sources(self) -> list[str]:
        if self.masks_file is None:
            return [self.ann_file]
        return [self.ann_file, beside(self.ann_file, self.masks_file)]

    def _row_options(self) -> dict:
        return dict(image_suffix=self.image_suffix, with_masks=bool(self.masks_file))

    def _flatten(self) -> Iterator[dict]:
        if self.masks_file is not None:
            records = _reference_records(*self._sources(), self.image_suffix)
        elif _is_object(self.ann_file):
            records = _coco_records(self.ann_file)
        else:
            records = stream_json_array(self.ann_file)
        for number, record in enumerate(records):
            try:
                yield dict(_row(record), id=str(number))
            except ValueError as error:
                yield damaged(number, f"record {number}: {error}")

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        instances, spans, ungrounded = [], [], []
        labels, masks = [], []
        for place, one in enumerate(row["phrases"]):
            rle = _joined(one["masks"], size)
            labels.append(one["phrase"])
            masks.append(rle)
            if one["span"] is None or not rle_area(rle):
                ungrounded.append(one["phrase"])
                continue
            spans.append(Span(*one["span"], (len(instances),)))
            instances.append(
                Instance(rle_box(rle), one["phrase"], rle=rle, id=str(place))
            )
        meta: dict[str, Any] = dict(ungrounded=ungrounded) if ungrounded else {}
        if "image_id" in row:
            meta["question_id"] = row["image_id"]
            meta["reference"] = dict(caption=row["caption"], labels=labels, masks=masks)
        return AnnotatedImage(
            row["image"],
            size,
            tuple(instances),
            captions=(Caption(row["caption"], tuple(spans)),),
            id=row["id"],
            meta=meta,
        )


# Layouts ------------------------------------------------------------------------


def _is_object(path: str) -> bool:
    """Whether a file begins as a JSON object, and not as a list."""
    with open(path, "rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def _coco_records(path: str) -> Iterator[Any]:
    """Yield the images of COCO's tables with their annotations."""
    images, by_image = [], defaultdict(list)
    for section, record, *_ in scan_sections(path, ("images", "annotations")):
        if section == "images":
            images.append(record)
        elif isinstance(record, dict) and not record.get("ignore"):
            by_image[_key(record.get("image_id"))].append(record)
    for image in images:
        found = by_image[_key(image.get("id"))] if isinstance(image, dict) else []
        yield dict(image, annotations=found) if isinstance(image, dict) else image


def _reference_records(path: str, masks: str, suffix: str) -> Iterator[Any]:
    """Yield the captions of an evaluation file with their masks."""
    by_image, names = defaultdict(list), {}
    for _, record, *_ in scan_sections(masks, ("annotations",)):
        if isinstance(record, dict):
            mask = record.get("segmentation")
            by_image[_key(record.get("image_id"))].append(mask)
    captions = []
    for section, record, *_ in scan_sections(path, ("images", "annotations")):
        if section == "annotations":
            captions.append(record)
        elif isinstance(record, dict):
            names[_key(record.get("id"))] = record.get("file_name")
    for one in captions:
        if isinstance(one, dict):
            key = _key(one.get("image_id"))
            name = names.get(key) or f"{one.get('image_id')}{suffix}"
            one = dict(one, file_name=name, masks=by_image[key])
        yield one


def _key(value: Any) -> str:
    return str(value)


def _row(record: Any) -> dict:
    """Return what all layouts say of an image: caption, and phrases with masks.

    Raises:
        ValueError: naming the field that is damaged.
    """
    if isinstance(record, dict) and len(record) == 1:  # {id: {...}}
        (record,) = record.values()
    row = dict(caption=need_text(record, "caption").strip().strip('"').strip())
    for name in ("width", "height"):
        if isinstance(record.get(name), int):
            row[name] = record[name]
    if "refs" in record:
        row["image"] = need(record, "img_file_name", str)
        phrases = [_of_ref(one, row["caption"]) for one in need(record, "refs", list)]
    else:
        row["image"] = need(record, "file_name", str)
        phrases = _phrases(record, row)
    return dict(row, phrases=phrases)


def _phrases(record: dict, row: dict) -> list[dict]:
    caption = row["caption"]
    if "labels" in record:
        labels, masks = need(record, "labels", list), record["masks"]
        if len(labels) != len(masks):
            raise ValueError(f"{len(labels)} 'labels', but {len(masks)} masks.")
        row["image_id"] = need(record, "image_id", (int, str))
        found: list[dict] = []
        at = 0
        for label, mask in zip(labels, masks, strict=True):
            if not isinstance(label, str) or not label.strip():
                raise ValueError(f"'labels' holds {label!r:.40}, expected words.")
            span = _place(label, caption, at) or _place(label, caption)
            at = span[1] if span else at
            found.append(dict(phrase=label, span=span, masks=[mask]))
        return found
    if "annotations" in record:
        found = [
            (need(one, "tokens_positive", list)[:1], [one.get("sam_mask")])
            for one in record["annotations"]
        ]
    else:
        found = [
            ([need(one, "token_positives", list)], need(one, "rle_masks", list))
            for one in need(record, "groundings", dict).values()
        ]
    return [_at(*one, record["caption"], caption) for one in found]


def _of_ref(ref: Any, caption: str) -> dict:
    phrase, rings = need_text(ref, "sentence"), need(ref, "segmentation", list)
    return dict(phrase=phrase, span=_place(phrase, caption), masks=[rings])


def _at(places: list, masks: list, caption: str, kept: str) -> dict:
    """Return the phrase at the first place of a caption.

    Args:
        places (list): pairs of first and last (exclusive) character.
        masks (list): of the phrase.
        caption (str): as the file has it.
        kept (str): the same without quotation marks around it.
    """
    place = places[0] if places else None
    pair = isinstance(place, list) and len(place) == 2
    if not pair or not all(type(one) is int for one in place):
        raise ValueError(f"the place of a phrase is {place!r:.40}, not two numbers.")
    start, end = place
    if not 0 <= start < end <= len(caption):
        raise ValueError(
            f"a phrase at {start}..{end} in a caption of {len(caption)} characters."
        )
    shift = caption.index(kept)
    span = [max(0, start - shift), min(end - shift, len(kept))]
    phrase = caption[start:end]
    return dict(phrase=phrase, span=span if span[0] < span[1] else None, masks=masks)


def _place(phrase: str, caption: str, start: int = 0) -> list[int] | None:
    """Return where words stand in a caption, whatever the case; None: nowhere."""
    at = caption.lower().find(phrase.strip().lower(), start)
    return None if at < 0 else [at, at + len(phrase.strip())]


def _joined(masks: list, size: tuple[int, int]) -> dict:
    """Return one mask of run lengths, or of lists of polygons.

    Raises:
        ValueError: when one is damaged, or there is none.
    """
    rles = [
        polygons_to_rle(check_polygons(one, size), size)
        if isinstance(one, list)
        else check_rle(one, size)
        for one in masks
    ]
    if not rles:
        raise ValueError("a phrase has no mask.")
    return merge_rles(rles)
