"""Answers of a test and of its blind twin, as one table."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmvlm.evaluation.functional.tiny_scenes import aggregate, score_rows
from mmvlm.utils.text_table import text_table

#: Least accuracy of the whole and of every task (fractions 0-1): runs that learn pass,
#: whatever their seed and precision; what learns nothing stays near chance.
MIN_OVERALL = 0.9
MIN_TASK = 0.7
#: How far from chance a blind run may be (fraction 0-1).
MAX_BLIND_GAP = 0.05

Answers = str | os.PathLike | Sequence[dict]


@dataclass(frozen=True)
class ResultLine:
    """One line of the table.

    Args:
        task (str): its name, or ``overall``.
        num (int): questions.
        accuracy (float): strict, 0-1.
        lenient (float): 0-1.
        blind (float | None): accuracy with shuffled images; None without a run.
        chance (float): of the best constant answer, 0-1.
        parse_failures (int): answers without the form of one.
    """

    task: str
    num: int
    accuracy: float
    lenient: float
    blind: float | None
    chance: float
    parse_failures: int

    @property
    def passed(self) -> bool:
        """Whether the accuracy reaches its mark, for the whole also the blind run."""
        if self.task != "overall":
            return self.accuracy >= MIN_TASK
        return self.accuracy >= MIN_OVERALL and self.blind_passed

    @property
    def blind_passed(self) -> bool:
        """Whether the blind run is at chance; true without a blind run."""
        return self.blind is None or abs(self.blind - self.chance) <= MAX_BLIND_GAP


def load_answers(answers: Answers) -> list[dict[str, Any]]:
    """Read the answers that ``TinyScenesMetric`` has written, and judge them.

    Args:
        answers (str | PathLike | Sequence[dict]): JSON lines file, or its rows.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when there are no answers.
    """
    if isinstance(answers, str | os.PathLike):
        if not os.path.isfile(answers):
            raise FileNotFoundError(
                f"no answers file '{answers}'; test with "
                f"--cfg-options test_evaluator.out_file={answers}."
            )
        with open(answers, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()]
    else:
        rows = list(answers)
    if not rows:
        raise ValueError(f"no answers in {answers!r:.100}.")
    return score_rows(rows)


def result_lines(
    answers: Answers, blind_answers: Answers | None = None
) -> list[ResultLine]:
    """Make the lines of the table, ``overall`` last.

    Args:
        answers (str | PathLike | Sequence[dict]): of the test.
        blind_answers (str | PathLike | Sequence[dict] | None): to the same questions
            with shuffled images.

    Raises:
        ValueError: when the blind run has other questions.
    """
    rows = load_answers(answers)
    table, blind = aggregate(rows), None
    if blind_answers is not None:
        blind_rows = load_answers(blind_answers)
        ids, blind_ids = ({row["sample_id"] for row in r} for r in (rows, blind_rows))
        if ids != blind_ids:
            raise ValueError(
                f"the blind run answers {len(blind_ids)} questions, the test "
                f"{len(ids)}; {len(ids ^ blind_ids)} are in one only. Run both on the "
                "same test file."
            )
        blind = aggregate(blind_rows)
    return [
        ResultLine(
            task=task,
            num=int(line["num"]),
            accuracy=line["strict"],
            lenient=line["lenient"],
            blind=None if blind is None else blind[task]["strict"],
            chance=line["majority"],
            parse_failures=int(line["parse_failures"]),
        )
        for task, line in table.items()
    ]


def format_table(answers: Answers, blind_answers: Answers | None = None) -> str:
    """Return the table as aligned text: accuracy, blind accuracy and chance.

    Args:
        answers (str | PathLike | Sequence[dict]): see :func:`result_lines`.
        blind_answers (str | PathLike | Sequence[dict] | None): likewise.
    """
    heads = ("questions", "accuracy", "lenient", "blind", "chance", "unparsed", "")
    lines = [("task", *heads)]
    for line in result_lines(answers, blind_answers):
        blind = "-" if line.blind is None else f"{line.blind:.1%}"
        shares = (f"{line.accuracy:.1%}", f"{line.lenient:.1%}", blind)
        mark = "" if line.passed else "below its mark"
        counts = (f"{line.chance:.1%}", line.parse_failures, mark)
        lines.append((line.task, line.num, *shares, *counts))
    return f"{text_table(lines, rules=[1, len(lines) - 1])}\n{marks_text()}"


def marks_text() -> str:
    """Say what is asked of a run."""
    return (
        f"Marks: {MIN_OVERALL:.0%} overall, {MIN_TASK:.0%} per task, blind within "
        f"{100 * MAX_BLIND_GAP:.0f} points of chance (the best constant answer)."
    )
