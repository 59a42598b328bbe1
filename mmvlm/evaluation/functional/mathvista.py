"""MathVista: the answer in a reply, by a judge where it does not stand alone.

Source: lupantech/MathVista: evaluation/extract_answer.py, calculate_score.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .reading import edit_distance

_LETTER = re.compile(r"\(([a-zA-Z])\)")


def bare_answer(
    text: str, options: Sequence[str] | None, answer_type: str
) -> str | None:
    """Return a reply that is an answer and nothing else; None needs a judge.

    Args:
        text (str): the reply; an empty one is an empty answer.
        options (Sequence[str] | None): of a multiple choice.
        answer_type (str): ``integer``, ``float``, ``text`` or ``list``.
    """
    if text == "" or (options and text in options):
        return text
    number = {"integer": int, "float": float}.get(answer_type, str)
    try:
        return None if number is str else str(number(text))
    except ValueError:
        return None


def normalised_answer(
    extraction: str,
    options: Sequence[str] | None,
    answer_type: str,
    precision: float | None = None,
) -> str | None:
    """Return an answer in the form of the reference, None where it has none.

    Multiple choice takes the option of a letter, in brackets or alone, else the one
    with the smallest edit distance; numbers are cut to integers or rounded.

    Args:
        extraction (str): the answer by itself.
        options (Sequence[str] | None): see :func:`bare_answer`.
        answer_type (str): likewise.
        precision (float | None): decimals of a ``float``.
    """
    if options:
        extraction = extraction.strip()
        letters = _LETTER.findall(extraction)
        word = letters[0].upper() if letters else extraction
        number = ord(word) - ord("A") if len(word) == 1 else -1
        if 0 <= number < len(options):
            return options[number]
        return min(options, key=lambda option: edit_distance(word, option))
    try:
        if answer_type == "integer":
            return str(int(float(extraction)))
        if answer_type == "float":
            places = None if precision is None else int(precision)
            return str(round(float(extraction), places))
    except (ValueError, OverflowError):
        return None
    return extraction


_EXTRACTION = (
    "A model answered a question about a picture. Find the final answer in its reply "
    "and write it in the form that the hint of the question wants, without any word "
    "more; nothing if the reply holds none."
)
_EXAMPLES = (
    ("Hint: The answer should be an integer, e.g., 1, 2, 3.\n"
     "Question: How many cubes are left?",
     "Two of the nine cubes are taken away, which leaves seven.", "7"),
    ("Hint: The answer should be a number with two decimal places, e.g., 1.23.\n"
     "Question: What part of the bar is filled?",
     "Three of eight cells are filled, so the part is 3/8.", "0.38"),
    ("Hint: The answer should be a list, e.g., [1, 2, 3].\n"
     "Question: Between which years did the line rise most?",
     "It rose most from 2004 to 2006.", "[2004, 2006]"),
    ("Hint: The answer should be the letter of the right option.\n"
     "Question: Which angle is the larger one?\nChoices:\n(A) left\n(B) right",
     "The angle at the right is the wider of both.", "B"),
)  # fmt: skip


def extraction_messages(question: str, reply: str) -> list[dict[str, str]]:
    """Return the chat message that lets a judge find the answer in a reply."""
    blocks = [
        f"{query}\n\nReply: {said}\n\nExtracted answer: {found}"
        for query, said, found in (*_EXAMPLES, (question, reply, ""))
    ]
    return [dict(role="user", content="\n\n".join([_EXTRACTION, *blocks]))]
