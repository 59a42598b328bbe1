"""Reader of Kosmos-2's GRIT: captions from the web with grounded phrases."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import (
    InstanceList,
    is_finite_number,
    need,
    need_text,
)
from mmvlm.datasets.io.jsonl import JSONLines
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Caption, Span

PHRASES = ("ref_exps", "noun_chunks")
SIZES = ("record", "image")
_NAMES = ("key", "shard", "id")
#: img2dataset puts ten thousand images in a folder named by five digits.
_SHARD_DIGITS = 5
_BATCH = 1024


@DATASETS.register_module()
class Kosmos2GRITDataset(AnnotatedImageDataset):
    """Captions whose noun chunks or referring expressions have boxes.

    The file is parquet (``coyo_0_snappy.parquet``) or has an object per line::

        {"key": "000373938", "id": 1795296605919, "url": "https://...",
         "caption": "a wire hanger with a paper cover", "width": 1024, "height": 693,
         "clip_similarity_vitb32": 0.353, "clip_similarity_vitl14": 0.279,
         "noun_chunks": [[19, 32, 0.019, 0.31, 0.96, 0.60, 0.79], ...],
         "ref_exps": [[0, 32, 0.019, 0.31, 0.96, 0.60, 0.79], ...]}

    A chunk or expression is: its first character in the caption, the one behind its
    last, ``x1, y1, x2, y2`` as fractions of the image's sides, and the detector's
    score. One phrase may come several times, with a box each. An expression that
    could not be expanded repeats its chunk. Images are downloaded with
    img2dataset, which names them by ``key``.

    What the filters leave out, and phrases that cannot be used, are counted in
    ``meta["left_out"]``.

    Source: huggingface.co/datasets/zzliang/GRIT. Paper: Peng et al., "Kosmos-2", ICLR
    2024, arXiv 2306.14824.

    Args:
        ann_file (str): a parquet file, or JSON lines.
        phrases (str): ``ref_exps`` or ``noun_chunks``.
        min_score (float): 0-1, of a box's score.
        min_side (float): pixels, of the shorter side of a box.
        image_pattern (str): path of an image, of ``{key}``, ``{shard}`` (the first
            five characters of the key) and ``{id}``.
        size_from (str): ``record``, or ``image`` when images were resized while
            they were downloaded: boxes are then in pixels of the file on disk.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for an unknown option or field of the pattern, or a file that
            cannot be read, naming it.
    """

    default_task: ClassVar[dict] = dict(type="GroundedCaption")

    def __init__(
        self,
        ann_file: str,
        *,
        phrases: str = "ref_exps",
        min_score: float = 0.0,
        min_side: float = 0.0,
        image_pattern: str = "{shard}/{key}.jpg",
        size_from: str = "record",
        **kwargs: Any,
    ) -> None:
        if phrases not in PHRASES or size_from not in SIZES:
            raise ValueError(
                f"phrases={phrases!r}, size_from={size_from!r}: expected one of "
                f"{PHRASES} and one of {SIZES}."
            )
        used = {name for _, name, _, _ in string.Formatter().parse(image_pattern)}
        if not used - {None} or used - {None, *_NAMES}:
            raise ValueError(
                f"image_pattern={image_pattern!r}: expected a path with some of "
                "{key}, {shard} and {id}."
            )
        self.phrases = phrases
        self.min_score = min_score
        self.min_side = min_side
        self.image_pattern = image_pattern
        self.size_from = size_from
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        return dict(image_pattern=self.image_pattern, size_from=self.size_from)

    def _flatten(self) -> Iterator[dict]:
        with open(self.ann_file, "rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        read = _parquet_rows if is_parquet else _lines
        for number, record in enumerate(read(self.ann_file)):
            record_id = f"record {number}"
            try:
                if isinstance(record, str):  # why the line cannot be read
                    raise ValueError(record)
                record_id = str(need(record, "key", (str, int)))
                yield self._row(record, record_id)
            except ValueError as error:
                yield damaged(record_id, str(error))

    def _row(self, record: dict, key: str) -> dict:
        need_text(record, "caption")
        for name in PHRASES:
            need(record, name, list)
        names = dict(key=key, shard=key[:_SHARD_DIGITS], id=record.get("id", ""))
        row = {name: value for name, value in record.items() if _is_plain(value)}
        if self.size_from == "image":
            row.pop("width", None)
            row.pop("height", None)
        return {**row, "id": key, "image": self.image_pattern.format(**names)}

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        caption = row["caption"]
        instances = InstanceList(size)
        spans: dict[tuple[int, int], list[int]] = {}
        lost: Counter[str] = Counter()
        counts = Counter(
            tuple(found[:2])
            for found in row[self.phrases]
            if _is_phrase(found, caption)
        )
        for found in row[self.phrases]:
            if not _is_phrase(found, caption):
                lost["no phrase"] += 1
                continue
            start, end, *box = found[:6]
            score = found[6] if len(found) > 6 else None
            if score is not None and score < self.min_score:
                lost["low score"] += 1
                continue
            place = (int(start), int(end))
            text = caption[slice(*place)]
            height, width = size
            box = [box[0] * width, box[1] * height, box[2] * width, box[3] * height]
            if 0 < min(box[2] - box[0], box[3] - box[1]) < self.min_side:
                lost["too small"] += 1
                continue
            # A text with several boxes means no one of them.
            phrases = (text,) if counts[start, end] == 1 else ()
            index = instances.add(box, phrases=phrases, meta=dict(score=score))
            if index is not None:
                spans.setdefault(place, []).append(index)
        instances.left_out += lost
        known = ("image", "id", "width", "height", "caption", *PHRASES)
        meta = {name: value for name, value in row.items() if name not in known}
        return AnnotatedImage(
            row["image"],
            size,
            tuple(instances.items),
            captions=(
                Caption(caption, tuple(Span(*p, tuple(i)) for p, i in spans.items())),
            ),
            id=row["id"],
            meta={**meta, **instances.meta},
        )


def _is_phrase(found: Any, caption: str) -> bool:
    """Whether a chunk or expression is seven numbers that fit the caption."""
    if not isinstance(found, list) or len(found) not in (6, 7):
        return False
    if not all(map(is_finite_number, found)):
        return False
    start, end = found[:2]
    whole = start == int(start) and end == int(end)
    return whole and 0 <= start < end <= len(caption)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | list | dict)


def _lines(path: str) -> Iterator[Any]:
    lines = JSONLines(path)
    for number in range(len(lines)):
        line = lines[number]
        yield line.value if line.reason is None else line.reason


def _parquet_rows(path: str) -> Iterator[dict]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        missing = {"key", "caption", *PHRASES} - set(file.schema_arrow.names)
        if missing:
            raise ValueError(f"it has no columns {sorted(missing)}")
        for batch in file.iter_batches(batch_size=_BATCH):
            batch.validate(full=True)
            yield from batch.to_pylist()
    except (ValueError, OSError, pyarrow.ArrowException) as error:
        raise ValueError(
            f"parquet file '{path}' cannot be read: {error}; fetch it again."
        ) from error
