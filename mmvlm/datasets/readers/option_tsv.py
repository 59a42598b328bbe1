"""Reader of the table in which MMBench and VLMEvalKit keep their sets."""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import hashlib
import io
import logging
import os
import string
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from mmengine.logging import print_log

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.datasets.io.file_patterns import expand_files
from mmvlm.registry import DATASETS
from mmvlm.structures import Conversation

from .questions import QuestionDataset

#: Cells that stand for nothing, as pandas reads them; LLaVA ignores their case.
_MISSING = frozenset(("", "nan", "none", "null", "n/a", "na", "<na>", "#n/a"))
#: An image of fewer characters is the index of the row that holds it.
_LONGEST_INDEX = 64
_LARGEST_CELL = 2**31 - 1
#: What a reference to an image inside the table begins with.
_INSIDE = "@"
#: Number of the group of an index.
_GROUPS: dict[str, Callable[[int], int]] = {
    "circular": lambda index: index % 1_000_000,
    "pairs": lambda index: (index - 1) // 2,
}


@DATASETS.register_module()
class OptionTSVDataset(QuestionDataset):
    """A table of questions with images inside, one row per question.

    The columns are ``index, question, A, B, ..., answer, category, l2-category, hint,
    image | image_path``. ``image`` is an image in base64, the index of another row
    that holds it, or a list of either; ``image_path`` a file below ``image_prefix``.
    Rows without an image are asked as text (VLMEvalKit leaves them out). Options are
    the columns of capital letters up to the first that is empty. Without options the
    answer is a text, or a list of texts that are all right. All other columns are kept
    in ``meta``, and equal images have one reference, so that an image that stands in
    many rows is one cluster.

    About thirty sets of VLMEvalKit, and LLaVA's ``mmbench_dev_20230712.tsv``, are read
    by it: MMBench, MMStar, AI2D, RealWorldQA, BLINK, HallusionBench, SEEDBench_IMG, ...
    The default task is VLMEvalKit's wording. Papers: Liu et al., "MMBench: Is Your
    Multi-modal Model an All-around Player?", ECCV 2024; Duan et al., "VLMEvalKit", ACM
    MM 2024.

    Args:
        ann_file (str): the table, or a pattern of several (see :func:`expand_files`);
            a sample's id then begins with the name of its file.
        with_image (bool | None): only rows with (without) an image; None takes both.
            VLMEvalKit scores rows with an image only. What it leaves out is counted
            and logged.
        item_groups (str | None): what ``meta['group']`` is, the items that count
            together: ``circular`` (rows whose indices differ by millions: MMBench's
            copies with moved options) or ``pairs`` (1 and 2, 3 and 4, ...: MMVP).
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        FileNotFoundError: when no file is found.
        ValueError: for unknown ``item_groups``; naming the file, when it is no table of
            that kind.
    """

    default_task: ClassVar[dict] = dict(
        type="MultipleChoice",
        prompts=["Question: {question}\nOptions:"],
        hint_line="Hint: {hint}",
        suffix="Please select the correct answer from the options above. \n",
    )

    def __init__(
        self,
        ann_file: str,
        *,
        with_image: bool | None = None,
        item_groups: str | None = None,
        **kwargs: Any,
    ) -> None:
        if item_groups not in (None, *_GROUPS):
            raise ValueError(
                f"item_groups={item_groups!r}: expected one of {list(_GROUPS)}."
            )
        self.item_groups = item_groups
        root = kwargs.get("data_root") or ""
        names = expand_files(root, ann_file, (".tsv",))
        self.files = [os.path.join(root, name) for name in names]
        self.with_image = with_image
        super().__init__(names[0], **kwargs)

    def _sources(self) -> list[str]:
        return self.files

    def _row_options(self) -> dict:
        own = dict(with_image=self.with_image, item_groups=self.item_groups)
        return {**super()._row_options(), **own}

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        left_out = 0
        for number, path in enumerate(self.files):
            prefix = f"{os.path.splitext(os.path.basename(path))[0]}/"
            for name, row in self._records_of_table(number):
                if isinstance(row, dict):
                    row["_prefix"] = prefix if len(self.files) > 1 else ""
                    shown = bool(row["_images"])
                    if self.with_image is not None and shown != self.with_image:
                        left_out += 1
                        continue
                yield name, row
        if left_out:
            print_log(
                f"dataset '{self.name}': with_image={self.with_image} leaves out "
                f"{left_out} rows.",
                logger="current",
                level=logging.INFO,
            )

    def _records_of_table(self, file: int) -> Iterator[tuple[Any, Any]]:
        header, images = self._images_of_rows(file)
        for number, (place, cells) in enumerate(_rows_of_table(self.files[file])):
            if number == 0:
                continue
            name = cells[header.index("index")] if len(cells) > 0 else ""
            if len(cells) != len(header):
                reason = f"row {number} has {len(cells)} cells of {len(header)}."
                yield name or f"row {number}", ValueError(reason)
                continue
            row = dict(zip(header, cells, strict=True))
            try:
                inside = f"{_INSIDE}{file}:{place[0]}:{place[1]}"
                row["_images"] = _references(row, inside, header, images)
            except ValueError as error:
                yield name or f"row {number}", error
                continue
            yield name or f"row {number}", row

    def _images_of_rows(self, file: int) -> tuple[list[str], dict[str, str]]:
        """Return the header, and for each row with one image its reference."""
        path = self.files[file]
        rows = _rows_of_table(path)
        _, header = next(rows, (None, []))
        header = [name.strip() for name in header]
        missing = {"index", "question"} - set(header)
        if missing or len(set(header)) != len(header):
            raise ValueError(
                f"annotation file '{path}': expected columns 'index' and "
                f"'question', each once, it has {header!r:.200}."
            )
        images: dict[str, str] = {}
        if "image" in header:
            column, index = header.index("image"), header.index("index")
            first: dict[bytes, str] = {}
            for (start, end), cells in rows:
                content = cells[column] if len(cells) == len(header) else ""
                if len(content) > _LONGEST_INDEX and not content.startswith("["):
                    digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
                    place = f"{_INSIDE}{file}:{start}:{end}:{column}"
                    images[cells[index]] = first.setdefault(digest, place)
        return header, images

    def _content(self, reference: str) -> Any:
        """Return an image: its bytes, or a path for a file beside the table.

        Raises:
            ValueError: when the cell holds no base64.
        """
        if not reference.startswith(_INSIDE):
            return reference
        file, start, end, column, *number = map(int, reference[1:].split(":"))
        with open(self.files[file], "rb") as source:
            source.seek(start)
            text = source.read(end - start).decode("utf-8-sig")
        csv.field_size_limit(_LARGEST_CELL)
        lines = io.StringIO(text, newline="")
        cell = next(csv.reader(lines, delimiter="\t"))[column]
        if number:
            cell = _items(cell)[number[0]]
        try:
            return base64.b64decode(cell.strip(), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(
                f"'image' at byte {start} is no base64: {error}."
            ) from error

    def _entries(self, raw: Any) -> list[dict]:
        if isinstance(raw, ValueError):
            raise raw
        index = raw["index"].strip()
        if not index:
            raise ValueError("'index' is empty.")
        images = raw["_images"]
        entry = dict(
            id=f"{raw['_prefix']}{index}",
            question_id=int(index) if _is_number(index) else index,
            image=(images[0] if len(images) == 1 else images) if images else None,
            question=need_text(raw, "question"),
            hint="" if _is_missing(raw.get("hint", "")) else raw["hint"],
        )
        letters = _letters(raw)
        choices = [raw[letter] for letter in letters]
        used = {"index", "question", "hint", "image", "image_path"}
        used |= {"_images", "_prefix"}
        known = set(string.ascii_uppercase) | used
        meta = {
            key: value
            for key, value in raw.items()
            if key not in known and not _is_missing(value)
        }
        if self.item_groups is not None:
            if not isinstance(entry["question_id"], int):
                raise ValueError(f"'index' must be a number, got {index!r:.40}.")
            meta["group"] = _GROUPS[self.item_groups](entry["question_id"])
        answer = meta.pop("answer", None)
        if choices:
            entry["choices"] = choices
            entry["choice"] = None if answer is None else _place(answer, letters)
        elif answer is not None:
            entry["answers"] = _items(answer)
            meta["reference"] = _items(answer) if answer.startswith("[") else answer
        return [{**entry, "meta": meta}]

    def _conversation(self, record: dict, images: list, rng: Any) -> Conversation:
        shown = [self._content(reference) for reference in images]
        return super()._conversation(record, shown, rng)


def _rows_of_table(path: str) -> Iterator[tuple[tuple[int, int], list[str]]]:
    """Yield where a row begins and ends, in bytes, and its cells; header first.

    Raises:
        ValueError: naming the file.
    """
    csv.field_size_limit(_LARGEST_CELL)
    end = 0

    def lines(file: Any) -> Iterator[str]:
        nonlocal end
        for line in file:
            first = end == 0
            end += len(line)
            if not line.endswith(b"\n"):
                raise ValueError(
                    f"annotation file '{path}' ends inside its last row: it was cut. "
                    "Fetch it again; a whole table ends with a line break."
                )
            yield line.decode("utf-8-sig" if first else "utf-8")

    try:
        with open(path, "rb") as file:
            start = 0
            for cells in csv.reader(lines(file), delimiter="\t"):
                if cells:
                    yield (start, end), cells
                start = end
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"annotation file '{path}' is no table of UTF-8 text: {error} (row at byte "
            f"{end})."
        ) from error


def _references(
    row: dict, inside: str, header: list[str], images: dict[str, str]
) -> list[str]:
    """Return references of a row's images.

    Args:
        row (dict): cells by column.
        inside (str): where the row lies.
        header (list[str]): columns.
        images (dict[str, str]): reference of the image of each row.

    Raises:
        ValueError: for an index of a row without an image, or a damaged list.
    """
    content = row.get("image", "")
    if _is_missing(content):
        path = row.get("image_path", "")
        return [] if _is_missing(path) else _items(path)
    if not content.startswith("["):
        if len(content) > _LONGEST_INDEX:
            return [images[row["index"]]]
        if content not in images:
            raise ValueError(f"'image' is {content!r}: no row of it has an image.")
        return [images[content]]
    column, found = header.index("image"), []
    for number, item in enumerate(_items(content)):
        is_index = len(item) <= _LONGEST_INDEX and item in images
        found.append(images[item] if is_index else f"{inside}:{column}:{number}")
    return found


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and str(int(text)) == text


def _letters(row: dict) -> str:
    """Return the letters of a row's options."""
    found = ""
    for letter in string.ascii_uppercase:
        if letter not in row or _is_missing(row[letter]):
            break
        found += letter
    return found


def _place(answer: str, letters: str) -> int:
    place = letters.find(answer.strip()) if len(answer.strip()) == 1 else -1
    if place < 0:
        raise ValueError(
            f"'answer' must be one of {list(letters)}, got {answer!r:.40}."
        )
    return place


def _items(cell: str) -> list[str]:
    """Return the texts of a list, or a text alone.

    Raises:
        ValueError: for a list that is damaged.
    """
    if not cell.startswith("["):
        return [cell]
    try:
        items = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"{cell!r:.60} is no list of texts.") from error
    texts = isinstance(items, list) and all(isinstance(x, str | int) for x in items)
    if not texts or not items:
        raise ValueError(f"{cell!r:.60} is no list of texts.")
    return list(map(str, items))
