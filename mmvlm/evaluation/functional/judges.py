"""Judged benchmarks: what a judge is asked, how its reply reads, how it sums up.

Sources: haotian-liu/LLaVA: llava/eval/eval_gpt_review_bench.py,
summarize_gpt_review.py; yuweihao/MM-Vet: mm-vet_evaluator.py; apple/ml-ferret:
ferret/eval/eval_gpt_review_3newclass.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmvlm.evaluation.functional.intervals import ratio

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def read_pair(reply: str) -> tuple[float, float] | None:
    """Return the two ratings of a reply's first line; None where it has not just two.

    Commas are blanks and single blanks part numbers, so that ``8, 7`` has three parts.
    """
    parts = reply.split("\n")[0].replace(",", " ").split(" ")
    try:
        first, second = map(float, parts)
    except ValueError:
        return None
    return first, second


def read_pair_loosely(reply: str) -> tuple[float, float] | None:
    """Return the only two numbers of 1 to 10 of the first line, or None."""
    numbers = [float(n) for n in _NUMBER.findall(reply.split("\n")[0])]
    if len(numbers) != 2 or not all(1 <= n <= 10 for n in numbers):
        return None
    return numbers[0], numbers[1]


def pair_shares(sums: np.ndarray) -> np.ndarray:
    """Return LLaVA-Bench's row: 100 x candidate / reference, and both x 10.

    Means are rounded to three decimals first, as published numbers were.

    Args:
        sums (np.ndarray): (..., 3) summed ratings of reference and candidate, and the
            number of pairs.

    Returns:
        np.ndarray: (..., 3) share, reference and candidate.
    """
    means = ratio(sums[..., :2], sums[..., 2:]).round(3)
    reference, candidate = means[..., 0], means[..., 1]
    share = 100 * ratio(candidate, reference)
    return np.stack([share, 10 * reference, 10 * candidate], axis=-1)


def read_grade(reply: str) -> float | None:
    """Return MM-Vet's grade, the first word, if it is a number of 0 to 1."""
    try:
        grade = float(reply.split(" ")[0].strip())
    except ValueError:
        return None
    return grade if 0 <= grade <= 1 else None


def capability_table(
    capabilities: Mapping[str, Sequence[str]], grades: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Return MM-Vet's percentages by capability and by exact set of capabilities.

    Args:
        capabilities (Mapping): item to its capabilities.
        grades (Mapping): item to grade, 0-1; an item without one counts as 0.

    Returns:
        dict: ``capability`` and ``integration``, each name to percent. A set is named
        by its sorted capabilities, joined by underscores.
    """
    tables: dict[str, dict[str, list[float]]] = {"capability": {}, "integration": {}}
    for item, names in capabilities.items():
        grade = grades.get(item, 0.0)
        for name in names:
            tables["capability"].setdefault(name, []).append(grade)
        together = "_".join(sorted(names))
        tables["integration"].setdefault(together, []).append(grade)
    return {
        kind: {name: 100 * float(np.mean(rows)) for name, rows in table.items()}
        for kind, table in tables.items()
    }


def ferret_answer(text: str, category: str) -> str:
    """Return an answer as Ferret-Bench's judge sees it.

    Groups in brackets are deleted from referring answers, with the blank before them.
    In grounded ones boxes of thousandths become fractions, and groups of other than
    four numbers are deleted.
    """
    if category.startswith("refer"):
        return re.sub(r" \[.*?\]", "", text)

    def as_fractions(match: re.Match) -> str:
        try:
            numbers = [float(part) / 1000 for part in match.group(1).split(",")]
        except ValueError:
            return match.group()
        inside = ", ".join(f"{number:.3f}" for number in numbers)
        return f"[{inside}]" if len(numbers) == 4 else ""

    return re.sub(r"\[(.*?)\]", as_fractions, text)


_REVIEWER = "Check the quality of the answers carefully and report it precisely."
_REVIEW = (
    "Two assistants answered the question about a picture that you cannot see but "
    "that the context describes. Rate how helpful, relevant, accurate and detailed "
    "each answer is, from 1 (worst) to 10 (best). Write the rating of Assistant 1, one "
    "blank and the rating of Assistant 2 on the first line and nothing else; from the "
    "second line on, explain them without regard to the order of the answers."
)
_REFER = " Rate also whether spatial relations in the answers fit the picture."
_GROUND = (
    " Rate also the boxes in the answers. A side that is off by less than 20 % of the "
    "true width or height costs nothing, larger deviations cost in proportion."
)


def review_messages(
    question: str,
    context: str,
    reference: str,
    answer: str,
    *,
    category: str = "",
    instruction: str | None = None,
) -> list[dict[str, str]]:
    """Return the chat messages that let a judge rate two answers.

    Args:
        question (str): the question.
        context (str): what describes the image.
        reference (str): answer of Assistant 1.
        answer (str): answer of Assistant 2, the candidate.
        category (str): of Ferret-Bench adds what its categories rate besides.
        instruction (str | None): the official text of the category, needed for
            comparable numbers. Default: own words.
    """
    if instruction is None:
        extra = {"refer": _REFER, "groun": _GROUND}.get(category[:5], "")
        instruction = _REVIEW + extra
    blocks = [
        f"[Context]\n{context}",
        f"[Question]\n{question}",
        f"[Assistant 1]\n{reference}\n\n[End of Assistant 1]",
        f"[Assistant 2]\n{answer}\n\n[End of Assistant 2]",
        f"[System]\n{instruction}",
    ]
    return [
        dict(role="system", content=_REVIEWER),
        dict(role="user", content="\n\n".join(blocks)),
    ]


_GRADING = (
    "Compare the ground truth with the prediction and give a correctness of 0.0 "
    "(totally wrong) to 1.0 (totally right) in steps of 0.1. <AND> in the ground "
    "truth: right only if all its elements are present. <OR>: right if any of them "
    "is. Fill in the last blank of the table and write nothing else."
)
_EQUATION = "What is x in the equation?"
_MEME = "Can you explain this meme?"
_MEME_TRUTH = (
    "The meme jokes about the names of countries: Iceland sounds cold and is green, "
    "Greenland sounds green and is icy."
)
_EXAMPLES = (
    (_EQUATION, "-1 <AND> -5", "x = 3", "0.0"),
    (_EQUATION, "-1 <AND> -5", "x = -1", "0.5"),
    (_EQUATION, "-1 <AND> -5", "x = -5", "0.5"),
    (_EQUATION, "-1 <AND> -5", "x = -5 or 5", "0.5"),
    (_EQUATION, "-1 <AND> -5", "x = -1 or x = -5", "1.0"),
    (_MEME, _MEME_TRUTH, "It says that Iceland and Greenland are islands.", "0.4"),
    (_MEME, _MEME_TRUTH, "Iceland is green although it sounds cold, and Greenland is "
     "covered by ice although it sounds green: their names fool people.", "1.0"),
)  # fmt: skip


def grading_messages(question: str, truth: str, answer: str) -> list[dict[str, str]]:
    """Return the chat message that lets a judge grade an MM-Vet answer."""
    truth = truth.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    rows = [
        "Question | Ground truth | Prediction | Correctness",
        "--- | --- | --- | ---",
        *(" | ".join(example) for example in _EXAMPLES),
        f"{question} | {truth} | {answer} | ",
    ]
    return [dict(role="user", content=f"{_GRADING}\n\n" + "\n".join(rows))]


_MATCHING = (
    "Match an answer with the options of a question. Name the option that is nearest "
    "in meaning to the answer by one capital letter, or write Z if the meaning of all "
    "options differs from the answer's."
)


def matching_messages(
    question: str, options: Mapping[str, str], answer: str
) -> list[dict[str, Any]]:
    """Return the chat message that lets a judge match an answer with an option."""
    animals = "A. teddy bear\nB. rabbit\nC. cat\nD. dog"
    examples = ((animals, "a cute teddy bear", "A"), (animals, "Spider", "Z"))
    blocks = [
        f"Question: What is the main object in the image?\nOptions:\n{listed}\n"
        f"Answer: {reply}\nLetter: {letter}"
        for listed, reply, letter in examples
    ]
    listed = "\n".join(f"{letter}. {text}" for letter, text in options.items())
    blocks.append(
        f"Question: {question}\nOptions:\n{listed}\nAnswer: {answer}\nLetter:"
    )
    return [dict(role="user", content="\n\n".join([_MATCHING, *blocks]))]
