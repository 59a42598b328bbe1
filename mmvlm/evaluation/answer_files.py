"""Answer files of other toolboxes, read and written: LLaVA, lmms-eval, VLMEvalKit."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmvlm.utils.files import write_atomic

Record = dict[str, Any]


# Reading -------------------------------------------------------------------------


def _json_lines(path: str | os.PathLike) -> list[dict]:
    rows = []
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"'{path}', line {number}: {error}") from error
    return rows


def read_llava(path: str | os.PathLike) -> list[Record]:
    """Return the answers of LLaVA's scripts: ``{"question_id", "prompt", "text"}``."""
    return [
        dict(
            key=_field(row, "question_id", path),
            question=row.get("prompt", ""),
            text=_text(_field(row, "text", path)),
            finish=(row.get("metadata") or {}).get("finish"),
        )
        for row in _json_lines(path)
    ]


def read_lmms_eval(path: str | os.PathLike) -> list[Record]:
    """Return the answers of lmms-eval's ``..._samples_<task>.jsonl``.

    A document is known by its number in the set.
    """
    rows = []
    for row in _json_lines(path):
        text = row.get("resps", row.get("filtered_resps"))
        while isinstance(text, list) and text:
            text = text[0]
        if text and not isinstance(text, str):
            raise ValueError(
                f"'{path}': document {row.get('doc_id')} was answered with "
                f"{text!r:.40}, no text: a task of likelihoods is not scored here."
            )
        place = int(_field(row, "doc_id", path))
        rows.append(dict(position=place, text=text or "", finish=row.get("finish")))
    return rows


def read_vlmevalkit(path: str | os.PathLike) -> list[Record]:
    """Return the answers of VLMEvalKit's ``<model>_<set>.xlsx`` or ``.tsv``."""
    return [
        dict(
            key=_field(row, "index", path),
            text=_text(_field(row, "prediction", path)),
            finish=row.get("finish") or None,
        )
        for row in _table(Path(path))
    ]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _field(row: dict, name: str, path: str | os.PathLike) -> Any:
    if name not in row:
        raise ValueError(
            f"'{path}': a row lacks '{name}'; it has {sorted(map(str, row))}. Is it "
            "in this --format?"
        )
    return row[name]


def _table(path: Path) -> list[dict]:
    if path.suffix == ".xlsx":
        from openpyxl import load_workbook

        sheet = load_workbook(path, read_only=True).worksheets[0]
        head, *rows = sheet.iter_rows(values_only=True)
        return [dict(zip(head, row, strict=True)) for row in rows]
    csv.field_size_limit(sys.maxsize)
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


# Joining -------------------------------------------------------------------------


def join(questions: Sequence[Record], found: Sequence[Record]) -> list[Record]:
    """Give answers of another toolbox to the questions that they belong to.

    An answer belongs to the question with its id; where several questions share an
    id, to the one with its text, or else to as many-th one.

    Args:
        questions (Sequence[dict]): records without an answer, in the order of the set.
        found (Sequence[dict]): of a reader: ``text`` and ``key`` (with ``question``)
            or ``position``.

    Returns:
        list[dict]: records with their answers; an answer that belongs to no question
        has a uid of its own.
    """
    by_key: dict[str, list[Record]] = defaultdict(list)
    for record in questions:
        by_key[str(record["question_id"])].append(record)
    by_place = {str(number): [one] for number, one in enumerate(questions)}
    if not any(str(one.get("key")) in by_key for one in found):
        by_key = by_place  # numbers of rows
    keys = {one.get("key") for one in found if "question" not in one}
    if len(by_key) < len(questions) and len(keys) == len(found):
        by_key = by_place  # likewise: each once, though several share their id
    taken: dict[str, int] = defaultdict(int)
    answered = []
    for one in found:
        key = str(one.get("key", one.get("position")))
        same = (by_key if "key" in one else by_place).get(key, [])
        record = _among(same, one, taken[key]) or dict(uid=f"unknown question {key}")
        taken[key] += 1
        # No other toolbox has questions that could not be read.
        failed = "error" in (record.get("finish"), one.get("finish"))
        finish = "error" if failed else "stop"
        answered.append({**record, "text": one["text"], "finish": finish})
    return answered


def _among(same: list[Record], answer: Record, before: int) -> Record | None:
    """Return the question of an answer among those that share its id."""
    if len(same) == 1:
        return same[0]
    question = _bare(answer.get("question", ""))
    alike = [one for one in same if question and _bare(one["question"]) == question]
    if len(alike) == 1:
        return alike[0]
    return same[before] if before < len(same) else None


def _bare(question: str) -> str:
    return " ".join(question.replace("<image>", " ").split())


# Writing -------------------------------------------------------------------------


def write_llava(path: str | os.PathLike, records: Sequence[Record], name: str) -> None:
    """Write answers as LLaVA's scripts do.

    A question that could not be read has no answer in any toolbox; all three files say
    so in a field ``finish``, which they read back.

    Args:
        path (str | PathLike): a ``.jsonl`` file.
        records (Sequence[dict]): answer records.
        name (str): of the model.
    """
    rows = [
        dict(
            question_id=one["question_id"],
            prompt=one["question"],
            text=one["text"],
            answer_id=one["uid"],
            model_id=name,
            metadata=_finish(one),
        )
        for one in records
    ]
    _write_lines(path, rows)


def write_lmms_eval(
    path: str | os.PathLike, records: Sequence[Record], name: str
) -> None:
    """Write answers as lmms-eval logs its samples; see :func:`write_llava`."""
    rows = [
        dict(
            doc_id=number,
            doc=dict(question_id=one["question_id"], question=one["question"]),
            target=one["reference"],
            resps=[[one["text"]]],
            filtered_resps=[one["text"]],
            **_finish(one),
        )
        for number, one in enumerate(records)
    ]
    _write_lines(path, rows)


def _finish(record: Record) -> dict[str, str]:
    """Return what a file says of a question that could not be read, else nothing."""
    return {"finish": "error"} if record.get("finish") == "error" else {}


def _write_lines(path: str | os.PathLike, rows: Sequence[dict]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, text)


def write_vlmevalkit(
    path: str | os.PathLike, records: Sequence[Record], name: str
) -> None:
    """Write answers as VLMEvalKit's tables of predictions; see :func:`write_llava`.

    A path that ends with ``.xlsx`` needs openpyxl; another one gets tab-separated
    values.
    """
    ids = [one["question_id"] for one in records]
    unique = len(set(map(str, ids))) == len(ids)
    head = ("index", "question", "answer", "category", "prediction")
    rows = [
        (
            one["question_id"] if unique else number,
            one["question"],
            _cell(one["reference"]),
            _cell(one["meta"].get("category")),
            one["text"],
        )
        for number, one in enumerate(records)
    ]
    if any(map(_finish, records)):
        head = (*head, "finish")
        ends = [_finish(one).get("finish", "") for one in records]
        rows = [(*row, end) for row, end in zip(rows, ends, strict=True)]
    if Path(path).suffix == ".xlsx":
        from openpyxl import Workbook

        book = Workbook(write_only=True)
        sheet = book.create_sheet()
        for row in (head, *rows):
            sheet.append(list(row))
        write_atomic(path, book.save)
        return
    file = io.StringIO()
    csv.writer(file, delimiter="\t", lineterminator="\n").writerows([head, *rows])
    write_atomic(path, file.getvalue())


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else value
    return json.dumps(value, ensure_ascii=False)


READERS: dict[str, Callable[[Any], list[Record]]] = {
    "llava": read_llava,
    "lmms-eval": read_lmms_eval,
    "vlmevalkit": read_vlmevalkit,
}
WRITERS: dict[str, Callable[[Any, Sequence[Record], str], None]] = {
    "llava": write_llava,
    "lmms-eval": write_lmms_eval,
    "vlmevalkit": write_vlmevalkit,
}
#: Ending of the files that a format writes.
ENDINGS = {"llava": ".jsonl", "lmms-eval": ".jsonl", "vlmevalkit": ".tsv"}
