"""Scoring of TinyScenes answers: strict, lenient, and what a constant would get."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .text import names_only, normalise

#: Least intersection over union of a box that counts as right.
MIN_IOU = 0.5
#: Possible answers of forms whose name says them.
CHOICES: dict[str, tuple[str, ...]] = {
    "yes-no": ("yes", "no"),
    "left-right": ("left", "right"),
    "above-below": ("above", "below"),
}
_NUMBER = r"(\d+(?:\.\d+)?)"
_BOX = re.compile(r"\[" + r",\s*".join([_NUMBER] * 4) + r"\]")
_LOOSE_BOX = re.compile(r"\D+".join([_NUMBER] * 4))
_STATEMENT = re.compile(r"an? (.+) at the (top|middle|bottom) (left|centre|right)")


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


def parse_box(text: str) -> tuple[float, float, float, float] | None:
    """Read ``[x1, y1, x2, y2]`` that is the whole text; None for anything else."""
    match = _BOX.fullmatch(normalise(text))
    return tuple(float(v) for v in match.groups()) if match else None


def find_box(text: str) -> tuple[float, float, float, float] | None:
    """Read the first four numbers of a text; None when there are fewer."""
    match = _LOOSE_BOX.search(text)
    return tuple(float(v) for v in match.groups()) if match else None


def parse_caption(text: str) -> list[tuple[str, str]] | None:
    """Read ``a THING at the PLACE, a THING at the PLACE`` as sorted pairs.

    None when a part has another form.

    Example:
        >>> parse_caption("a red cross at the top left.")
        [('red cross', 'top left')]
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


def to_pixels(
    percent: Sequence[float], size: Sequence[float]
) -> tuple[float, float, float, float]:
    """Turn a box in percent of the image into pixels.

    Args:
        percent (Sequence[float]): ``x1, y1, x2, y2``, 0-100.
        size (Sequence[float]): height and width of the image in pixels.
    """
    height, width = size
    x1, y1, x2, y2 = percent
    return (
        x1 * width / 100,
        y1 * height / 100,
        x2 * width / 100,
        y2 * height / 100,
    )


def box_is_right(
    percent: Sequence[float] | None, box: Sequence[float], size: Sequence[float]
) -> bool:
    """Hold a box in percent of the image against the true one in pixels.

    Args:
        percent (Sequence[float] | None): the answer; None is wrong.
        box (Sequence[float]): ``x1, y1, x2, y2`` in pixels.
        size (Sequence[float]): height and width of the image in pixels.
    """
    return percent is not None and iou(to_pixels(percent, size), box) >= MIN_IOU


def score_answer(
    pred: str,
    gt: str,
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
    text. A name is right when all of it is; leniently, the colour is enough, which no
    other thing of the image has. Any other answer must be the right word; leniently,
    the right word must appear and no other choice.

    Args:
        pred (str): what the model said.
        gt (str): what is right.
        form (str): ``caption``, ``box``, ``name`` (as in ``a red circle``), or another
            name for one-word answers.
        choices (Iterable[str]): the answers that questions of this form have.
        box (Sequence[float] | None): the true box in pixels, for ``box``.
        size (Sequence[float] | None): height and width of the image, for ``box``.

    Raises:
        ValueError: for a box question without box and size, or a true caption
            that cannot be read.
    """
    if form == "box":
        if box is None or size is None:
            raise ValueError("a question of form 'box' needs 'box' and 'size'.")
        exact = parse_box(pred)
        strict = box_is_right(exact, box, size)
        lenient = strict or box_is_right(find_box(pred), box, size)
        return Score(strict, lenient, exact is not None)
    if form == "caption":
        truth, predicted = parse_caption(gt), parse_caption(pred)
        if truth is None:
            raise ValueError(
                f"the true caption {gt!r} has an unknown form; expected 'a THING at "
                "the PLACE, ...'."
            )
        named = set(truth) <= find_statements(pred)
        return Score(predicted == truth, named, predicted is not None)
    known = {normalise(c) for c in choices} | {normalise(gt)}
    if form == "name":
        said, truth = normalise(pred), normalise(gt)
        lenient = said == truth or _colour(said) == _colour(truth) is not None
        return Score(said == truth, lenient, said in known)
    known |= set(CHOICES.get(form, ()))
    predicted = normalise(pred)
    strict = predicted == normalise(gt)
    return Score(strict, strict or names_only(pred, gt, known), predicted in known)


def _colour(name: str) -> str | None:
    match = re.match(r"an? (\w+) \w", name)
    return match.group(1) if match else None


def best_constant(questions: Sequence[dict[str, Any]]) -> tuple[str, float]:
    """Find the answer that is right most often, for questions of one form.

    This is what somebody who never sees the image can get. For boxes every true
    answer is tried; otherwise it is the most frequent answer.

    Args:
        questions (Sequence[dict]): ``gt`` and what :func:`score_answer` takes, all
            of one form.

    Returns:
        tuple[str, float]: the answer and the fraction that it gets right.

    Raises:
        ValueError: without questions.
    """
    if not questions:
        raise ValueError("best_constant: no questions.")
    answers = sorted({q["gt"] for q in questions})
    if questions[0]["form"] == "box":
        hits = {
            answer: sum(
                box_is_right(parse_box(answer), q["box"], q["size"]) for q in questions
            )
            for answer in answers
        }
    else:
        counts = Counter(_canonical(q) for q in questions)
        hits = {
            q["gt"]: counts[_canonical(q)]
            for q in sorted(questions, key=lambda q: q["gt"])
        }
    best = max(answers, key=hits.__getitem__)
    return best, hits[best] / len(questions)


def _canonical(question: dict[str, Any]) -> Any:
    """Return what two equally right answers share."""
    if question["form"] == "caption":
        return tuple(parse_caption(question["gt"]) or ())
    return normalise(question["gt"])


def score_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Judge all answers of a run.

    Args:
        rows (Sequence[dict]): ``task``, ``form``, ``gt``, ``pred`` and, for boxes,
            ``box`` and ``size``; not changed.

    Returns:
        list[dict]: the rows with ``strict``, ``lenient`` and ``parsed``.
    """
    choices: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        choices.setdefault((row["task"], row["form"]), set()).add(row["gt"])
    scored = []
    for row in rows:
        score = score_answer(
            row["pred"],
            row["gt"],
            form=row["form"],
            choices=choices[row["task"], row["form"]],
            box=row.get("box"),
            size=row.get("size"),
        )
        judged = dict(strict=score.strict, lenient=score.lenient, parsed=score.parsed)
        scored.append({**row, **judged})
    return scored


def aggregate(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Add up the judged answers of a run.

    Args:
        rows (Sequence[dict]): of :func:`score_rows`.

    Returns:
        dict: per task in order of appearance, and last under ``overall``: ``num``
        (questions), ``strict`` and ``lenient`` (fractions right),
        ``parse_failures`` (answers that lack the form of one), and ``majority``
        (fraction that the best constant answer of each form would get).
    """
    forms: dict[tuple[str, str], list] = {}
    for row in rows:
        forms.setdefault((row["task"], row["form"]), []).append(row)
    hits: Counter = Counter()
    for (task, _), members in forms.items():
        hits[task] += best_constant(members)[1] * len(members)
    table = {
        task: _line([r for r in rows if r["task"] == task], hits[task])
        for task in dict.fromkeys(row["task"] for row in rows)
    }
    table["overall"] = _line(rows, sum(hits.values()))
    return table


def _line(rows: Sequence[dict], constant_hits: float) -> dict[str, float]:
    share = 1 / len(rows) if rows else 0.0
    return dict(
        num=len(rows),
        strict=sum(r["strict"] for r in rows) * share,
        lenient=sum(r["lenient"] for r in rows) * share,
        parse_failures=sum(not r["parsed"] for r in rows),
        majority=constant_hits * share,
    )
