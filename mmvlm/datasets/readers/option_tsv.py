"""Reader of the table in which MMBench and VLMEvalKit keep their sets."""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import hashlib
import string
from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need_text
from mmvlm.registry import DATASETS
from mmvlm.structures import Conversation

from .questions import QuestionDataset

#: Cells that stand for nothing, as pandas reads them; LLaVA ignores their case.
_MISSING = frozenset(("", "nan", "none", "null", "n/a", "na", "<na>", "#n/a"))
#: A picture of fewer characters is the index of the row that holds it.
_LONGEST_INDEX = 64
_LARGEST_CELL = 2**31 - 1
#: What a reference to a picture inside the table begins with.
_INSIDE = "@"


@DATASETS.register_module()
class OptionTSVDataset(QuestionDataset):
    """A table of questions with pictures inside, one row per question.

    The columns are ``index, question, A, B, ..., answer, category, l2-category, hint,
    image | image_path``. ``image`` is a picture in base64, the index of another row that
    holds it, or a list of either; ``image_path`` a file below ``image_prefix``. Rows
    without a picture are asked as text (VLMEvalKit leaves them out). Options are the
    columns of capital letters up to the first that is empty. Without options the answer
    is a text, or a list of texts that are all right. All other columns are kept in
    ``meta``, and equal pictures have one reference, so that a picture that stands in
    many rows is one cluster.

    About thirty sets of VLMEvalKit, and LLaVA's ``mmbench_dev_20230712.tsv``, are read
    by it: MMBench, MMStar, AI2D, RealWorldQA, BLINK, HallusionBench, SEEDBench_IMG, ...
    The default task is VLMEvalKit's wording. Papers: Liu et al., "MMBench: Is Your
    Multi-modal Model an All-around Player?", ECCV 2024; Duan et al., "VLMEvalKit", ACM
    MM 2024.

    Args:
        ann_file (str): the table.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        ValueError: naming the file, when it is no table of that kind.
    """

    default_task: ClassVar[dict] = dict(
        type="MultipleChoice",
        prompts=["Question: {question}\nOptions:"],
        hint_line="Hint: {hint}",
        suffix="Please select the correct answer from the options above. \n",
    )

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        header, pictures = self._pictures_of_rows()
        for number, (place, cells) in enumerate(self._rows_of_table()):
            if number == 0:
                continue
            name = cells[header.index("index")] if len(cells) > 0 else ""
            if len(cells) != len(header):
                reason = f"row {number} has {len(cells)} cells of {len(header)}."
                yield name or f"row {number}", ValueError(reason)
                continue
            row = dict(zip(header, cells, strict=True))
            try:
                row["_images"] = self._references(row, place, header, pictures)
            except ValueError as error:
                yield name or f"row {number}", error
                continue
            yield name or f"row {number}", row

    # The table -----------------------------------------------------------------

    def _rows_of_table(self) -> Iterator[tuple[tuple[int, int], list[str]]]:
        """Yield where a row begins and ends, in bytes, and its cells; header first.

        Raises:
            ValueError: naming the file.
        """
        csv.field_size_limit(_LARGEST_CELL)
        end = 0

        def lines(file: Any) -> Iterator[str]:
            nonlocal end
            for line in file:
                end += len(line)
                yield line.decode("utf-8-sig" if end == len(line) else "utf-8")

        try:
            with open(self.ann_file, "rb") as file:
                start = 0
                for cells in csv.reader(lines(file), delimiter="\t"):
                    if cells:
                        yield (start, end), cells
                    start = end
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"annotation file '{self.ann_file}' is no table of UTF-8 text: {error} "
                f"(row at byte {end})."
            ) from error

    def _pictures_of_rows(self) -> tuple[list[str], dict[str, str]]:
        """Return the header, and for each row with one picture its reference."""
        rows = self._rows_of_table()
        _, header = next(rows, (None, []))
        header = [name.strip() for name in header]
        missing = {"index", "question"} - set(header)
        if missing or len(set(header)) != len(header):
            raise ValueError(
                f"annotation file '{self.ann_file}': expected columns 'index' and "
                f"'question', each once, it has {header!r:.200}."
            )
        pictures: dict[str, str] = {}
        if "image" in header:
            column, index = header.index("image"), header.index("index")
            first: dict[bytes, str] = {}
            for (start, end), cells in rows:
                content = cells[column] if len(cells) == len(header) else ""
                if len(content) > _LONGEST_INDEX and not content.startswith("["):
                    digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
                    place = f"{_INSIDE}{start}:{end}:{column}"
                    pictures[cells[index]] = first.setdefault(digest, place)
        return header, pictures

    def _references(
        self,
        row: dict,
        place: tuple[int, int],
        header: list[str],
        pictures: dict[str, str],
    ) -> list[str]:
        """Return references of a row's pictures.

        Raises:
            ValueError: for an index of a row without a picture, or a damaged list.
        """
        content = row.get("image", "")
        if _is_missing(content):
            path = row.get("image_path", "")
            return [] if _is_missing(path) else _items(path)
        if not content.startswith("["):
            if len(content) > _LONGEST_INDEX:
                return [pictures[row["index"]]]
            if content not in pictures:
                raise ValueError(f"'image' is {content!r}: no row of it has a picture.")
            return [pictures[content]]
        column, found = header.index("image"), []
        for number, item in enumerate(_items(content)):
            if len(item) <= _LONGEST_INDEX and item in pictures:
                found.append(pictures[item])
            else:
                found.append(f"{_INSIDE}{place[0]}:{place[1]}:{column}:{number}")
        return found

    def _content(self, reference: str) -> Any:
        """Return a picture: its bytes, or a path for a file beside the table.

        Raises:
            ValueError: when the cell holds no base64.
        """
        if not reference.startswith(_INSIDE):
            return reference
        start, end, column, *number = map(int, reference[1:].split(":"))
        with open(self.ann_file, "rb") as file:
            file.seek(start)
            text = file.read(end - start).decode("utf-8-sig")
        csv.field_size_limit(_LARGEST_CELL)
        cell = next(csv.reader(text.splitlines(keepends=True), delimiter="\t"))[column]
        if number:
            cell = _items(cell)[number[0]]
        try:
            return base64.b64decode(cell.strip(), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"'image' at byte {start} is no base64: {error}.") from error

    # Entries ---------------------------------------------------------------------

    def _entries(self, raw: Any) -> list[dict]:
        if isinstance(raw, ValueError):
            raise raw
        index = raw["index"].strip()
        if not index:
            raise ValueError("'index' is empty.")
        images = raw["_images"]
        entry = dict(
            id=index,
            question_id=int(index) if _is_number(index) else index,
            image=(images[0] if len(images) == 1 else images) if images else None,
            question=need_text(raw, "question"),
            hint="" if _is_missing(raw.get("hint", "")) else raw["hint"],
        )
        letters = _letters(raw)
        choices = [raw[letter] for letter in letters]
        used = {"index", "question", "hint", "image", "image_path", "_images"}
        known = set(string.ascii_uppercase) | used
        meta = {
            key: value
            for key, value in raw.items()
            if key not in known and not _is_missing(value)
        }
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
        raise ValueError(f"'answer' must be one of {list(letters)}, got {answer!r:.40}.")
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
