"""Reader of RefCOCO-like data that other projects wrote as one flat file."""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import PIL.Image

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.index.scanner import first_character
from mmvlm.datasets.io.annotation_files import (
    need,
    need_text,
    pixel_box,
    stream_json_array,
)
from mmvlm.datasets.io.jsonl import JSONLines
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Conversation, Instance


@dataclass(frozen=True)
class Dialect:
    """How a project names what a record says.

    Args:
        image (str): field of the image's path (its base64 text in a table).
        text (str): field of the expression.
        box (str): field of the box in pixels.
        id (str): field of the record's id; empty: the record's number.
        form (str): of the box: ``xyxy`` or ``xywh``.
        columns (tuple[str, ...]): names of the columns of a table with tabs, which
            has no names of its own; empty for JSON.
    """

    image: str
    text: str
    box: str
    id: str = ""
    form: str = "xyxy"
    columns: tuple[str, ...] = ()


DIALECTS = {
    "shikra": Dialect("img_path", "expression", "bbox"),
    "pink": Dialect("image_id", "sentence", "bbox", "exp_id"),
    "qwen_vl": Dialect("image", "sent", "bbox"),
    "ofa": Dialect(
        "image", "text", "box", "id", columns=("id", "image_id", "text", "box", "image")
    ),
}


@DATASETS.register_module()
class FlatReferringDataset(AnnotatedImageDataset):
    """An expression, its box and its image per record.

    ========= =========================== ==========================================
    dialect   file                        a record
    ========= =========================== ==========================================
    shikra    ``REC_ref3_train.jsonl``    ``img_path, expression, bbox``
    pink      JSON list                   ``image_id`` (file name), ``sentence, bbox,
                                          exp_id, ref_id``
    qwen_vl   ``refcoco_val.jsonl``       ``image, sent, bbox, width, height``
    ofa       ``refcoco_train.tsv``       id, image's id, expression, ``x0,y0,x1,y1``,
                                          image as base64; tabs between
    ========= =========================== ==========================================

    Boxes are corners in pixels of the image. JSON files may be a list or have an
    object per line. Images inside a table are read from it when they are asked for.
    Sizes come from ``width`` and ``height`` of a record, else from the image.

    Sources: shikras/shikra, SY-Xuan/Pink, QwenLM/Qwen-VL, OFA-Sys/OFA on GitHub.

    Args:
        ann_file (str): see above.
        dialect (str | dict): one of the names, or the arguments of a
            :class:`Dialect` of your own.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for an unknown dialect, or a file that cannot be read, naming it.
    """

    default_task: ClassVar[dict] = dict(type="ReferringComprehension")

    def __init__(self, ann_file: str, *, dialect: str | dict, **kwargs: Any) -> None:
        if isinstance(dialect, str) and dialect not in DIALECTS:
            raise ValueError(
                f"dialect={dialect!r}: expected one of {list(DIALECTS)}, or the "
                "fields of your own as a dict."
            )
        known = isinstance(dialect, str)
        self.dialect = DIALECTS[dialect] if known else Dialect(**dialect)
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        return asdict(self.dialect)

    def _flatten(self) -> Iterator[dict]:
        names = self.dialect
        for number, record in enumerate(self._raw()):
            record_id = f"record {number}"
            try:
                if isinstance(record, str):  # why the line cannot be read
                    raise ValueError(record)
                if names.id:
                    record_id = str(need(record, names.id, (str, int)))
                row = dict(
                    image=need_text(record, names.image),
                    text=need_text(record, names.text),
                    box=need(record, names.box, list),
                )
                row["id"] = record_id if names.id else str(record.get("id", number))
                rest = {k: v for k, v in record.items() if k not in _fields(names)}
                yield {**rest, **row}
            except ValueError as error:
                yield damaged(record_id, str(error))

    def _raw(self) -> Iterator[Any]:
        if self.dialect.columns:
            yield from _table(self.ann_file, self.dialect)
        elif first_character(self.ann_file)[0] == "[":
            yield from stream_json_array(self.ann_file)
        else:
            lines = JSONLines(self.ann_file)
            for number in range(len(lines)):
                line = lines[number]
                yield line.value if line.reason is None else line.reason

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        box, uncut = pixel_box(
            row["box"],
            size,
            form=self.dialect.form,
            what=self.dialect.box,
            keep=self.evaluate,
        )
        meta = {k: v for k, v in row.items() if k not in ("id", "image", "text", "box")}
        phrase = row["text"].strip()
        instance = Instance(box=box, phrases=(phrase,), id=row["id"], meta=uncut)
        return AnnotatedImage(row["image"], size, (instance,), id=row["id"], meta=meta)

    # Images inside a table ------------------------------------------------

    def _conversation(
        self, record: dict, images: list, rng: np.random.Generator
    ) -> Conversation:
        if self.dialect.columns:
            images = [_image(self.ann_file, place) for place in images]
        return super()._conversation(record, images, rng)

    def _size(self, record: dict, image: str) -> tuple[int, int]:
        if not self.dialect.columns:
            return super()._size(record, image)
        try:
            with PIL.Image.open(io.BytesIO(_image(self.ann_file, image))) as opened:
                return opened.height, opened.width
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"image at {image}: {error}") from error


def _fields(names: Dialect) -> set[str]:
    return {names.image, names.text, names.box, names.id}


def _table(path: str, dialect: Dialect) -> Iterator[Any]:
    """Yield the rows of a table; in the place of an image, where it stands."""
    columns = dialect.columns
    image = columns.index(dialect.image)
    start = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            cells = line.rstrip(b"\r\n").split(b"\t")
            begin = start + sum(len(cell) + 1 for cell in cells[:image])
            start += len(line)
            if not line.strip():
                continue
            where = f"line {number} of '{path}'"
            if len(cells) != len(columns):
                reason = f"{where}: {len(cells)} columns, expected {len(columns)}"
                if number == 1 or not line.endswith(b"\n"):
                    raise ValueError(
                        f"annotation file: {reason} ({', '.join(columns)}). It is no "
                        "such table, or was cut; fetch it again."
                    )
                yield f"{reason}."
                continue
            place = f"{os.path.basename(path)}#{begin}:{begin + len(cells[image])}"
            if not line.endswith(b"\n"):
                _check_whole(path, place, where)
            yield _row(cells, dialect, place, where)
    if not start:
        raise ValueError(f"annotation file '{path}' is empty.")


def _check_whole(path: str, place: str, where: str) -> None:
    """Raise ValueError when the file was cut inside its last image."""
    try:
        with PIL.Image.open(io.BytesIO(_image(path, place))) as image:
            image.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"annotation file: {where} ends too early: {error}. It was cut; fetch it "
            "again."
        ) from error


def _row(
    cells: list[bytes], dialect: Dialect, place: str, where: str
) -> dict[str, Any] | str:
    """Return the record of a line, or why there is none."""
    cells = [
        b"" if name == dialect.image else cell
        for name, cell in zip(dialect.columns, cells, strict=True)
    ]
    try:
        texts = [cell.decode() for cell in cells]
        record: dict = dict(zip(dialect.columns, texts, strict=True))
        numbers = record[dialect.box].split(",")
        record[dialect.box] = [float(number) for number in numbers]
    except UnicodeDecodeError as error:
        return f"{where} is not UTF-8 text: {error.reason}."
    except ValueError as error:
        return f"{where}: '{dialect.box}' holds no numbers: {error}."
    return {**record, dialect.image: place}


def _image(path: str, place: str) -> bytes:
    """Return the bytes of an image that stands in a table."""
    start, end = map(int, place.rsplit("#", 1)[1].split(":"))
    with open(path, "rb") as file:
        file.seek(start)
        text = file.read(end - start)
    try:
        # OFA writes the alphabet that is safe in addresses; both are read.
        return base64.b64decode(text.translate(_PLAIN_ALPHABET), validate=True)
    except binascii.Error as error:
        raise ValueError(f"the image at {place} is no base64: {error}.") from error


_PLAIN_ALPHABET = bytes.maketrans(b"-_", b"+/")
