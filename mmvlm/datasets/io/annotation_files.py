"""What readers of annotation files share: whole files, fields and boxes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mmvlm.datasets.index.scanner import read_value, scan_list
from mmvlm.structures import Instance

Box = tuple[float, float, float, float]


class BoxError(ValueError):
    """A box that cannot be used; ``kind`` is what such boxes are counted under."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_json(path: str, expected: type = dict) -> Any:
    """Return what a JSON file holds.

    Raises:
        ValueError: naming the file, when it is cut, no JSON, not UTF-8, or holds
            something else than ``expected``.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            value = json.load(file)
    except UnicodeDecodeError as error:
        raise ValueError(f"annotation file '{path}' is not UTF-8 text: {error}.") from (
            error
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"annotation file '{path}' is not valid JSON: {error}. If it ends too "
            "early it was cut; fetch it again."
        ) from error
    if not isinstance(value, expected):
        raise ValueError(
            f"annotation file '{path}' holds a {type(value).__name__}, expected a "
            f"{expected.__name__}."
        )
    return value


def stream_json_array(path: str) -> Iterator[Any]:
    """Yield the items of a JSON list, never holding more than a few of them.

    Args:
        path (str): a file that is one list; it may be larger than the memory.

    Raises:
        ValueError: naming file and place, where it is cut, no JSON, not UTF-8 or no
            list.
    """
    with open(path, "rb") as file:
        for found in scan_list(path):
            file.seek(found.start)  # the scan takes whole numbers for floats
            value, problem = read_value(file.read(found.end - found.start))
            if problem is not None:
                raise ValueError(
                    f"annotation file '{path}': item {found.number} {problem}."
                )
            yield value


def need(record: Any, field: str, kind: type | tuple[type, ...]) -> Any:
    """Return a field of a record.

    Raises:
        ValueError: when the record is no object, lacks the field, or holds
            something of another kind there.
    """
    if not isinstance(record, dict):
        raise ValueError(f"expected a record (JSON object), got {record!r:.80}.")
    if field not in record:
        raise ValueError(
            f"no field '{field}'; the record has {sorted(map(str, record))!r:.200}."
        )
    value = record[field]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(one.__name__ for one in kinds)
        raise ValueError(f"'{field}' must be a {names}, got {value!r:.80}.")
    return value


def need_text(record: Any, field: str) -> str:
    """Return a text that is not blank; see :func:`need`."""
    value = need(record, field, str)
    if not value.strip():
        raise ValueError(f"'{field}' is an empty text.")
    return value


def pixel_box(
    value: Any,
    size: tuple[int, int],
    *,
    form: str = "xyxy",
    what: str = "box",
    keep: bool = False,
) -> tuple[Box, dict]:
    """Return a box as x1, y1, x2, y2 inside its image.

    A box that sticks out is cut to the image; the numbers of the file are then
    kept. The far edge lies at the image's width or height.

    Args:
        value (Any): four numbers.
        size (tuple[int, int]): height and width of the image.
        form (str): ``xyxy`` or ``xywh``.
        what (str): name of the field, for messages.
        keep (bool): a box without extent or outside of the image is no error: in
            the image it becomes one of a pixel at the nearest place, beside
            ``uncut_box`` and ``unusable``. For evaluation, where every item counts.

    Returns:
        tuple[Box, dict]: the box, and ``{"uncut_box": ...}`` or nothing.

    Raises:
        BoxError: for something else than four finite numbers; unless ``keep``, for
            no extent or a box outside of the image.
    """
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise BoxError("no box", f"'{what}' must be four numbers, got {value!r:.80}.")
    if not all(map(is_finite_number, value)):
        raise BoxError("not finite", f"'{what}' holds no finite number: {value!r:.80}.")
    x1, y1, x2, y2 = map(float, value)
    if form == "xywh":
        x2, y2 = x1 + x2, y1 + y2
    if (x2 <= x1 or y2 <= y1) and not keep:
        raise BoxError("no extent", f"'{what}' has no extent: {value!r:.80} ({form}).")
    height, width = size
    unusable = {}
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if (cut[2] <= cut[0] or cut[3] <= cut[1]) and keep:
        left, top = min(max(x1, 0.0), width - 1.0), min(max(y1, 0.0), height - 1.0)
        cut = (left, top, max(cut[2], left + 1), max(cut[3], top + 1))
        unusable = {"unusable": True}
    elif cut[2] <= cut[0] or cut[3] <= cut[1]:
        raise BoxError(
            "outside",
            f"'{what}' {value!r:.80} ({form}) lies outside of its image of "
            f"{width} x {height} pixels.",
        )
    if cut == (x1, y1, x2, y2):
        return cut, {}
    return cut, {"uncut_box": [x1, y1, x2, y2], **unusable}


def is_finite_number(value: Any) -> bool:
    """Whether a value is a number that can be counted with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -1e18 < value < 1e18  # false for NaN


def beside(path: str, name: str) -> str:
    """Return the path of a file in the folder of another one.

    Raises:
        ValueError: when there is none.
    """
    full = os.path.join(os.path.dirname(path), name)
    if not os.path.isfile(full):
        raise ValueError(f"'{full}' does not exist; it belongs beside '{path}'.")
    return full


class InstanceList:
    """The instances of one image; those whose box cannot be used are counted.

    Files with dozens of boxes per image have a wrong one now and then. It is left
    out, and :attr:`meta` says how many are and why; the others stay.

    Args:
        size (tuple[int, int]): height and width of the image.
        strict (bool): a box that cannot be used is an error, where nothing would be
            left to say without it.
        keep (bool): see :func:`pixel_box`.
    """

    def __init__(
        self, size: tuple[int, int], strict: bool = False, keep: bool = False
    ) -> None:
        self.size = size
        self.strict, self.keep = strict, keep
        self.items: list[Instance] = []
        self.left_out: Counter[str] = Counter()

    def add(self, box: Any, *, form: str = "xyxy", **fields: Any) -> int | None:
        """Add an instance; returns its index, None when it is left out."""
        try:
            xyxy, uncut = pixel_box(box, self.size, form=form, keep=self.keep)
        except BoxError as error:
            if self.strict:
                raise
            self.left_out[error.kind] += 1
            return None
        fields["meta"] = {**fields.get("meta", {}), **uncut}
        self.items.append(Instance(box=xyxy, **fields))
        return len(self.items) - 1

    @property
    def meta(self) -> dict:
        """``{"left_out": {reason: count}}``, or nothing."""
        return {"left_out": dict(self.left_out)} if self.left_out else {}
