"""Reader of DenseFusion's JSON lines, and their conversion to LLaVA's format."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from mmvlm.datasets.base import ConversationDataset
from mmvlm.datasets.io.jsonl import JSONLine, JSONLines
from mmvlm.registry import DATASETS
from mmvlm.structures import Conversation, Image, Text, Turn
from mmvlm.text.llava_format import IMAGE_TAG
from mmvlm.utils.files import write_atomic

#: Goes up with every change of the words and images that are counted here.
_INDEX_VERSION = 1
IMAGE_FIELDS = ("auto", "image", "image_path")


def row_of(line: JSONLine, path: str) -> dict:
    """Return the row of a line.

    Raises:
        ValueError: naming file and line, when it is no JSON object.
    """
    if line.reason is not None:
        raise ValueError(line.reason)
    if not isinstance(line.value, dict):
        raise ValueError(
            f"line {line.number} of '{path}': expected a row (JSON object), got "
            f"{type(line.value).__name__} {line.value!r:.100}."
        )
    return line.value


def image_of(row: dict, field: str, where: str) -> str:
    """Return the image's path in a row.

    Args:
        row (dict): of DenseFusion.
        field (str): ``image``, ``image_path``, or ``auto``: the first of the two
            that the row has.
        where (str): file and line, for the message.

    Raises:
        ValueError: when the row has no such field, or no path in it.
    """
    if field == "auto":
        field = "image" if "image" in row else "image_path"
    return _text(row, field, where)


def _text(row: dict, field: str, where: str) -> str:
    if field not in row:
        raise ValueError(f"{where}: no field '{field}'; it has {sorted(row)}.")
    value = row[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{where}: '{field}' must be a text that is not empty, got {value!r:.80}."
        )
    return value


@DATASETS.register_module()
class DenseFusionDataset(ConversationDataset):
    """Images with long captions (DenseFusion-1M, DenseFusion-4V-100K).

    A line is ``{"image_id", "image_path", "caption", "url"}``, and ``image`` where
    the download tool wrote the file. The first opening makes an index; then only a
    line that is asked for is parsed. The conversation is an image and its
    caption, as the template ``plain`` wants it.

    A file that is cut fails at once, whatever the policy for bad samples; a
    damaged line among whole ones follows the policy when it is read.

    Args:
        ann_file (str): annotation file.
        image_field (str): ``auto`` takes ``image`` where a row has it, else
            ``image_path``; or one of the two.
        prompt (str): question of the user behind the image, for templates that
            show it.
        **kwargs: see :class:`ConversationDataset`. ``image_prefix`` is the folder
            that either field is relative to.

    Raises:
        ValueError: for another ``image_field``.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        image_field: str = "auto",
        prompt: str = "",
        **kwargs: Any,
    ) -> None:
        if image_field not in IMAGE_FIELDS:
            raise ValueError(
                f"image_field={image_field!r}: expected one of {list(IMAGE_FIELDS)}."
            )
        self.image_field = image_field
        self.prompt = prompt
        super().__init__(ann_file, **kwargs)

    def _load_records(self) -> JSONLines:
        try:
            return JSONLines(
                self.ann_file,
                describe=self._describe,
                reader=[type(self).__name__, _INDEX_VERSION, self.image_field],
            )
        except ValueError as error:
            raise ValueError(f"dataset '{self.name}': {error}") from error

    def _where(self, record: JSONLine) -> str:
        return f"line {record.number} of '{self.ann_file}'"

    def _record_id(self, record: JSONLine) -> str:
        row = record.value
        return str(row.get("image_id", "")) if isinstance(row, dict) else ""

    def _image_keys(self, record: JSONLine) -> tuple:
        row = row_of(record, self.ann_file)
        return (image_of(row, self.image_field, self._where(record)),)

    def _conversation(
        self, record: JSONLine, images: list, rng: np.random.Generator
    ) -> Conversation:
        row = row_of(record, self.ann_file)
        caption = _text(row, "caption", self._where(record))
        question = (Text(f"\n{self.prompt}"),) if self.prompt else ()
        turns = [
            Turn("user", (Image(0), *question)),
            Turn("assistant", (Text(caption),)),
        ]
        meta = {k: v for k, v in row.items() if k not in ("image_id", "caption")}
        return Conversation(turns, images, self._record_id(record), meta)

    def _num_words(self, record: JSONLine) -> int:
        row = record.value if isinstance(record.value, dict) else {}
        caption = row.get("caption")
        return len(caption.split()) if isinstance(caption, str) else 0


def to_llava(
    row: dict, where: str, image_field: str = "auto", prompt: str = ""
) -> dict:
    """Return LLaVA's record of a row.

    Args:
        row (dict): of DenseFusion.
        where (str): file and line, for messages.
        image_field (str): see :class:`DenseFusionDataset`.
        prompt (str): what the user asks; the template ``plain`` leaves it out.

    Raises:
        ValueError: for a damaged row, or a caption that holds the image's tag,
            which LLaVA's format cannot tell from an image.
    """
    caption = _text(row, "caption", where)
    if IMAGE_TAG in caption:
        raise ValueError(
            f"{where}: the caption holds '{IMAGE_TAG}', which means an image in "
            "LLaVA's format. Read the rows with DenseFusionDataset instead."
        )
    if "image_id" not in row:
        raise ValueError(f"{where}: no field 'image_id'; it has {sorted(row)}.")
    return {
        "id": str(row["image_id"]),
        "image": image_of(row, image_field, where),
        "conversations": [
            {"from": "human", "value": f"{IMAGE_TAG}\n{prompt}".rstrip()},
            {"from": "gpt", "value": caption},
        ],
    }


def convert_to_llava(
    json_file: str,
    out_file: str,
    *,
    image_field: str = "auto",
    prompt: str = "",
    skip_bad: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[int, int]:
    """Write rows as the JSON list that LLaVA's readers take; order is kept.

    Args:
        json_file (str): DenseFusion's JSON lines.
        out_file (str): appears under its name only when it is whole.
        image_field (str): see :func:`to_llava`.
        prompt (str): likewise.
        skip_bad (bool): leave damaged rows out and report them, instead of
            stopping at the first.
        report (Callable): takes a line for every row left out.

    Returns:
        tuple[int, int]: rows written and rows left out.

    Raises:
        ValueError: naming file and line of a damaged row.
    """
    lines = JSONLines(json_file)
    counts = [0, 0]

    def write(file: Any) -> None:
        file.write(b"[")
        for row in range(len(lines)):
            line = lines[row]
            where = f"line {line.number} of '{json_file}'"
            try:
                record = to_llava(row_of(line, json_file), where, image_field, prompt)
            except ValueError as error:
                if not skip_bad:
                    raise
                report(str(error))
                counts[1] += 1
                continue
            file.write(b",\n" if counts[0] else b"\n")
            file.write(json.dumps(record, ensure_ascii=False).encode())
            counts[0] += 1
        file.write(b"\n]\n")

    write_atomic(out_file, write)
    return counts[0], counts[1]
