"""Scoring of TinyScenes answers: strict, lenient, and what a constant would get."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

#: Least intersection over union of a box that counts as right.
MIN_IOU = 0.5
_BOX = re.compile(r"\[(\d+), (\d+), (\d+), (\d+)\]")
_LOOSE_BOX = re.compile(r"(\d+(?:\.\d+)?)\D+" * 3 + r"(\d+(?:\.\d+)?)")
_STATEMENT = re.compile(r"an? (.+) at the (top|bottom) (left|right)")


@dataclass(frozen=True)
class Score:
    """How one answer was judged.

    Args:
        strict (bool): right, and in the form asked for.
        lenient (bool): right when read with good will; true where strict is.
        parsed (bool): whether it has the form of an answer at all.

    """

    strict: bool
    lenient: bool
    parsed: bool


def normalise(text: str) -> str:
    """Lower the case, squeeze blanks, take off a final period."""
    return " ".join(text.lower().split()).rstrip(".").strip()


def parse_box(text: str) -> tuple[float, float, float, float] | None:
    """Read ``[x1, y1, x2, y2]`` that is the whole text; None for anything else."""
    match = _BOX.fullmatch(text.strip())
    return tuple(float(v) for v in match.groups()) if match else None


def find_box(text: str) -> tuple[float, float, float, float] | None:
    """Read the first four numbers of a text; None when there are fewer."""
    match = _LOOSE_BOX.search(text)
    return tuple(float(v) for v in match.groups()) if match else None


def parse_caption(text: str) -> list[tuple[str, str]] | None:
    """Read ``a THING at the PLACE, a THING at the PLACE`` as sorted pairs.

    None when a part has another form.
    """
    pairs = []
    for part in normalise(text).split(", "):
        match = _STATEMENT.fullmatch(part)
        if match is None:
            return None
        pairs.append((match.group(1), f"{match.group(2)} {match.group(3)}"))
    return sorted(pairs)


def find_statements(text: str) -> set[tuple[str, str]]:
    """Read every statement of a caption that has the right form."""
    found = (parse_caption(part) for part in normalise(text).split(", "))
    return {pair for pairs in found if pairs for pair in pairs}


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes ``x1, y1, x2, y2`` in one frame."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0.0) * max(height, 0.0)
    areas = [max(x[2] - x[0], 0.0) * max(x[3] - x[1], 0.0) for x in (a, b)]
    union = sum(areas) - inter
    return inter / union if union > 0 else 0.0


def box_is_right(
    percent: Sequence[float] | None, box: Sequence[float], size: Sequence[float]
) -> bool:
    """Hold a box in percent of the picture against the true one in pixels.

    Args:
        percent (Sequence[float] | None): the answer; None is wrong.
        box (Sequence[float]): ``x1, y1, x2, y2`` in pixels.
        size (Sequence[float]): height and width of the picture.

    """
    if percent is None:
        return False
    height, width = size
    scale = (width / 100, height / 100) * 2
    pixels = [v * s for v, s in zip(percent, scale, strict=True)]
    return iou(pixels, box) >= MIN_IOU


def score_answer(
    prediction: str,
    answer: str,
    *,
    form: str,
    choices: Iterable[str] = (),
    box: Sequence[float] | None = None,
    size: Sequence[float] | None = None,
) -> Score:
    """Judge one answer.

    A caption is strictly right when it names exactly the objects with their
    places, in any order; leniently, when it names all of them and perhaps more. A
    box is right from an IoU of 0.5 on; leniently, its numbers may stand in any
    text. Any other answer must be the right word; leniently, the right word must
    appear and no other choice.

    Args:
        prediction (str): what the model said.
        answer (str): what is right.
        form (str): ``caption``, ``box``, or another name for one-word answers.
        choices (Iterable[str]): the answers that questions of this form have.
        box (Sequence[float] | None): the true box in pixels, for ``box``.
        size (Sequence[float] | None): height and width of the picture, for ``box``.

    Raises:
        ValueError: for a box question without box and size, or a true caption
            that cannot be read.

    """
    if form == "box":
        if box is None or size is None:
            raise ValueError("a question of form 'box' needs 'box' and 'size'.")
        exact = parse_box(prediction)
        strict = box_is_right(exact, box, size)
        lenient = strict or box_is_right(find_box(prediction), box, size)
        return Score(strict, lenient, exact is not None)
    if form == "caption":
        truth, said = parse_caption(answer), parse_caption(prediction)
        if truth is None:
            raise ValueError(f"the true caption {answer!r} has an unknown form.")
        named = set(truth) <= find_statements(prediction)
        return Score(said == truth, said == truth or named, said is not None)
    said, right = normalise(prediction), normalise(answer)
    words = set(re.findall(r"[a-z0-9]+", said))
    known = {normalise(choice) for choice in choices} | {right}
    return Score(said == right, words & known == {right}, said in known)


def best_constant(questions: Sequence[dict[str, Any]]) -> tuple[str, float]:
    """Find the answer that is right most often, for questions of one form.

    Args:
        questions (Sequence[dict]): ``answer`` and what :func:`score_answer` takes.

    Returns:
        tuple[str, float]: the answer and the fraction that it gets right.

    """
    best = ("", 0.0)
    for constant in sorted({q["answer"] for q in questions}):
        right = sum(
            score_answer(
                constant,
                q["answer"],
                form=q["form"],
                box=q.get("box"),
                size=q.get("size"),
            ).strict
            for q in questions
        )
        if right / len(questions) > best[1]:
            best = (constant, right / len(questions))
    return best


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Score all answers of a run.

    Args:
        rows (Sequence[dict]): ``task``, ``form``, ``answer``, ``prediction`` and,
            for boxes, ``box`` and ``size``. Each row gets ``strict``, ``lenient``
            and ``parsed``.

    Returns:
        dict: per task, and under ``all``, a dict with ``number`` of questions,
        ``strict`` and ``lenient`` (fractions right), ``failures`` (answers without
        the form of one), and ``majority``: the fraction that the best constant
        answer of each form would get.

    """
    forms: dict[tuple[str, str], list] = {}
    for row in rows:
        forms.setdefault((row["task"], row["form"]), []).append(row)
    constant_hits: dict[str, float] = {}
    for (task, _), members in forms.items():
        choices = {row["answer"] for row in members}
        for row in members:
            score = score_answer(
                row["prediction"],
                row["answer"],
                form=row["form"],
                choices=choices,
                box=row.get("box"),
                size=row.get("size"),
            )
            row.update(strict=score.strict, lenient=score.lenient, parsed=score.parsed)
        hits = best_constant(members)[1] * len(members)
        constant_hits[task] = constant_hits.get(task, 0.0) + hits
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    table = {
        task: _line([r for r in rows if r["task"] == task], constant_hits[task])
        for task in tasks
    }
    table["all"] = _line(rows, sum(constant_hits.values()))
    return table


def _line(rows: Sequence[dict], constant_hits: float) -> dict[str, float]:
    number = len(rows)
    share = 1 / number if number else 0.0
    return dict(
        number=number,
        strict=sum(r["strict"] for r in rows) * share,
        lenient=sum(r["lenient"] for r in rows) * share,
        failures=sum(not r["parsed"] for r in rows),
        majority=constant_hits * share,
    )
