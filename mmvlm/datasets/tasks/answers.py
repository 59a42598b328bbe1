"""Which answer is trained, and how the lines of a question are put together."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mmvlm.structures import AnnotatedImage, Text, Turn, VisualQuestion

RULES = ("most_frequent", "random", "first")
PLACES = ("first", "each", "last")


def choose_answer(answers: Sequence[str], rule: str, rng: np.random.Generator) -> str:
    """Return one of the answers that annotators gave.

    Args:
        answers (Sequence[str]): not empty, most trusted first.
        rule (str): ``most_frequent`` (of equals the more trusted), ``random`` (each
            annotator's vote has the same weight) or ``first``.
        rng (np.random.Generator): for ``random``.
    """
    if rule == "random":
        return answers[int(rng.integers(len(answers)))]
    if rule == "first":
        return answers[0]
    return Counter(answers).most_common(1)[0][0]


def only_question(annotation: AnnotatedImage) -> VisualQuestion:
    """Return the one question about an image.

    Raises:
        ValueError: when there are others, so that a reference would be ambiguous.
    """
    if len(annotation.questions) != 1:
        raise ValueError(
            f"{len(annotation.questions)} questions about one image; to score them "
            "read the file with group='question'."
        )
    return annotation.questions[0]


def right_letter(annotation: AnnotatedImage) -> str | None:
    """Return the letter of the right choice of the one question, None if hidden."""
    choice = only_question(annotation).choice
    return None if choice is None else string.ascii_uppercase[choice]


def draw(pool: Sequence[str], rng: np.random.Generator) -> str:
    """Return a wording; a pool of one leaves the generator as it is."""
    return pool[0] if len(pool) == 1 else pool[int(rng.integers(len(pool)))]


def draw_questions(
    questions: Sequence[VisualQuestion], most: int | None, rng: np.random.Generator
) -> list[VisualQuestion]:
    """Return at most ``most`` questions, in their order."""
    if most is None or len(questions) <= most:
        return list(questions)
    chosen = np.sort(rng.permutation(len(questions))[:most])
    return [questions[int(place)] for place in chosen]


def applies_at(place: str, number: int, total: int) -> bool:
    """Whether a line that belongs to ``place`` stands in question ``number``."""
    return place == "each" or number == (0 if place == "first" else total - 1)


def lines(*texts: str | None) -> str:
    """Join the lines that say something."""
    return "\n".join(text for text in texts if text)


def dialogue(pairs: Sequence[tuple[str, str | None]]) -> list[Turn]:
    """Return turns of questions and answers.

    Args:
        pairs (Sequence[tuple[str, str | None]]): an answer of None is hidden.

    Raises:
        ValueError: when an answer is hidden that is not the last one.
    """
    hidden = [number for number, (_, answer) in enumerate(pairs) if answer is None]
    if hidden and hidden != [len(pairs) - 1]:
        raise ValueError(
            f"questions {hidden} of {len(pairs)} have no answer; only the last one of "
            "a dialogue may wait for it: read such files with group='question'."
        )
    turns = []
    for question, answer in pairs:
        turns.append(Turn("user", (Text(question),)))
        if answer is not None:
            turns.append(Turn("assistant", (Text(answer),)))
    return turns


def check_options(name: str, **options: tuple[str, Sequence[str]]) -> None:
    """Check options against what is allowed.

    Raises:
        ValueError: naming task and option.
    """
    for key, (value, allowed) in options.items():
        if value not in allowed:
            raise ValueError(f"{name}: {key}={value!r}, expected one of {allowed}.")


def check_wordings(name: str, key: str, pool: Sequence[str], *fields: str) -> None:
    """Check that every wording of a pool has all of these fields and no other.

    Raises:
        ValueError: naming task and option.
    """
    known = dict.fromkeys((*fields, "hint", "letter", "rationale", "lecture"), "")
    if isinstance(pool, str) or not pool:
        raise ValueError(f"{name}: {key} must be a list of texts, got {pool!r}.")
    for text in pool:
        missing = [field for field in fields if "{" + field + "}" not in text]
        try:
            text.format(**known)
        except (ValueError, KeyError, IndexError) as error:
            raise ValueError(f"{name}: {key} {text!r}: {error!r}.") from error
        if missing:
            raise ValueError(f"{name}: {key} {text!r} lacks {missing}.")
