"""Files that test servers and official scripts take, made from answer records.

Sources: haotian-liu/LLaVA: scripts/convert_*_for_submission.py, convert_gqa_for_eval,
convert_mmvet_for_eval; the MME eval bundle's convert_answer_to_mme.py.

A writer takes records (``question_id``, ``text``, and of ``meta`` what it names) and
returns file name to content; :data:`WRITERS` names them. No reference is needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from mmvlm.evaluation.functional.choices import lettered
from mmvlm.evaluation.functional.gqa import gqa_answer
from mmvlm.evaluation.functional.vqa import normalise_evalai

Records = Sequence[Mapping[str, Any]]
_SHORT_ANSWER = "Answer the question using a single word or phrase."
_YES_OR_NO = "Please answer yes or no."
_MMBENCH_HEAD = ("index", "question", "A", "B", "C", "D")
_MMBENCH_TAIL = ("answer", "split")


def vqa_rows(records: Records, all_ids: Iterable[Any] = ()) -> list[dict]:
    """Return VQAv2's rows for every id of the full test file.

    Args:
        records (Sequence[Mapping]): answers.
        all_ids (Iterable): ids the server expects, in order; an id without an answer
            gets the empty string. Default: those of the records.

    Raises:
        ValueError: when an answer has an id that is not expected.
    """
    answers = {r["question_id"]: normalise_evalai(r["text"]) for r in records}
    ids = list(all_ids) or list(answers)
    if foreign := sorted(set(answers) - set(ids), key=str):
        raise ValueError(f"answers to {len(foreign)} unknown ids, e.g. {foreign[:5]}")
    return [dict(question_id=key, answer=answers.get(key, "")) for key in ids]


def vizwiz_rows(records: Records) -> list[dict]:
    """Return VizWiz's rows: file name of the image and processed answer."""
    return [
        dict(
            image=PurePosixPath(record["image"]).name,
            answer=normalise_evalai(record["text"]),
        )
        for record in records
    ]


def gqa_rows(records: Records) -> list[dict]:
    """Return GQA's rows: id as text and converted answer."""
    return [
        dict(questionId=str(r["question_id"]), prediction=gqa_answer(r["text"]))
        for r in records
    ]


def mmvet_answers(records: Records) -> dict[str, str]:
    """Return MM-Vet's answers by ``v1_<question id>``."""
    ids = [str(record["question_id"]).removeprefix("v1_") for record in records]
    return {f"v1_{key}": r["text"] for key, r in zip(ids, records, strict=True)}


def mmbench_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list]]:
    """Return the header and rows of MMBench's upload.

    Args:
        rows (Sequence[Mapping]): ``index``, ``question``, options by letter,
            ``prediction`` and, where known, ``answer`` and ``split``.

    Returns:
        tuple: column names and rows; a column that no row has is left out but for
        the options A to D, which the server wants.
    """
    tail = [name for name in _MMBENCH_TAIL if any(name in row for row in rows)]
    head = [*_MMBENCH_HEAD, "prediction", *tail]
    return head, [[row.get(name) for name in head] for row in rows]


def mmbench_book(records: Records) -> dict[str, bytes]:
    """Return MMBench's workbook, from records whose ``meta`` holds ``options``.

    Raises:
        ImportError: saying what to install, when openpyxl is missing.
    """
    try:
        from openpyxl import Workbook
    except ImportError as error:
        raise ImportError(
            "MMBench's upload is a workbook: pip install openpyxl"
        ) from error
    rows = []
    for record in records:
        meta = record["meta"]
        row = dict(
            index=record["question_id"],
            question=meta.get("question", record["question"]),
            prediction=record["text"],
            **lettered(meta["options"]),
        )
        known = dict(answer=record.get("reference"), split=record.get("split"))
        rows.append(row | {key: one for key, one in known.items() if one is not None})
    head, table = mmbench_table(rows)
    book, stream = Workbook(write_only=True), BytesIO()
    sheet = book.create_sheet()
    for row in [head, *table]:
        sheet.append(row)
    book.save(stream)
    return {"mmbench.xlsx": stream.getvalue()}


def mme_question(prompt: str, known: Mapping[str, Any]) -> str | None:
    """Return the official wording of a question, or None if it is unknown.

    Args:
        prompt (str): the recorded prompt, with or without the short-answer line.
        known (Mapping): official questions, each ending in a request for yes or no
            after one or two blanks.
    """
    text = prompt.replace(_SHORT_ANSWER, "").strip()
    forms = (text, f"{text} {_YES_OR_NO}", f"{text}  {_YES_OR_NO}")
    return next((form for form in forms if form in known), None)


def mme_files(
    records: Records, labels: Mapping[tuple[str, str], Mapping[str, str]]
) -> dict[str, str]:
    """Return MME's result files, one per task.

    Args:
        records (Sequence[Mapping]): ``question_id`` ``<task>/<image>``, ``prompt``
            or ``question``, and ``text``.
        labels (Mapping): (task, file name of the question file) to official question
            to ``Yes`` or ``No``. A question that it lacks is left out, as the
            official converter does.

    Returns:
        dict: file name to rows of question file, question, label and answer, in the
        order of the records.
    """
    files: dict[str, list[str]] = {}
    for record in records:
        task, image = str(record["question_id"]).split("/", 1)
        name = f"{PurePosixPath(image).stem}.txt"
        known = labels.get((task, name), {})
        question = mme_question(record.get("prompt") or record["question"], known)
        if question is not None:
            answer = record["text"].replace("\n", " ").replace("\t", " ")
            row = "\t".join([name, question, known[question], answer])
            files.setdefault(f"{task}.txt", []).append(row)
    return {name: "\n".join(rows) + "\n" for name, rows in sorted(files.items())}


def read_mme_labels(files: Mapping[str, str]) -> dict[tuple[str, str], dict[str, str]]:
    """Read question files, path below the set's root to text, for :func:`mme_files`."""
    labels: dict[tuple[str, str], dict[str, str]] = {}
    for path, text in files.items():
        parts = PurePosixPath(path).parts
        rows = (line.split("\t") for line in text.splitlines() if line.strip())
        labels[parts[0], parts[-1]] = {row[0]: row[1] for row in rows}
    return labels


def _json_file(name: str, content: Any) -> dict[str, str]:
    return {name: json.dumps(content, ensure_ascii=False)}


def _json_lines(name: str, rows: Iterable[Mapping]) -> dict[str, str]:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return {name: "".join(lines)}


def read_ids(path: str) -> list[Any]:
    """Return the question ids of an official question file or of JSON lines."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        rows = json.loads(text)["questions"]
    except (ValueError, KeyError):
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [row["question_id"] for row in rows]


def _vqa_file(records: Records, ids_file: str | None = None) -> dict[str, str]:
    """Answer every question of ``ids_file``, which the server expects."""
    ids = () if ids_file is None else read_ids(ids_file)
    return _json_file("vqav2.json", vqa_rows(records, ids))


def _mme_from_records(records: Records) -> dict[str, str]:
    """Take labels from the references of the records themselves."""
    labels: dict[tuple[str, str], dict[str, str]] = {}
    for record in records:
        task, image = str(record["question_id"]).split("/", 1)
        name = f"{PurePosixPath(image).stem}.txt"
        stem = record["question"].replace(_SHORT_ANSWER, "").strip()
        stem = stem.removesuffix(_YES_OR_NO).strip()
        label = str(record["reference"]).capitalize()
        labels.setdefault((task, name), {})[f"{stem} {_YES_OR_NO}"] = label
    prompted = [{**r, "prompt": r["question"].strip()} for r in records]
    return mme_files(prompted, labels)


#: Format of a server to its writer: records and options to file name and content.
WRITERS: dict[str, Callable[..., dict[str, str | bytes]]] = {
    "vqav2": _vqa_file,
    "vizwiz": lambda records: _json_file("vizwiz.json", vizwiz_rows(records)),
    "gqa": lambda records: _json_file("gqa.json", gqa_rows(records)),
    "seed": lambda records: _json_lines(
        "seed.jsonl",
        ({"question_id": r["question_id"], "prediction": r["text"]} for r in records),
    ),
    "caption": lambda records: _json_file(
        "captions.json",
        [{"image_id": r["question_id"], "caption": r["text"]} for r in records],
    ),
    "mmvet": lambda records: _json_file("mm-vet.json", mmvet_answers(records)),
    "mmbench": mmbench_book,
    "mme": _mme_from_records,
}
