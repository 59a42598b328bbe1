"""What answers that do not depend on the image would score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

#: First words that make a kind of questions, coarse to fine; none: all are of a kind.
_WORDS = (0, 2, 3)


def question_kind(text: str, words: int) -> tuple:
    """Return what a question wants: its first words, and the answers that it offers.

    VQAv2 groups questions by their first words too. Words beside an ``or``, as in
    ``left or right``, are answers to choose from.

    Args:
        text (str): question; lines behind the first are the protocol's.
        words (int): first words to compare; 0 makes all questions one kind.
    """
    if not words:
        return ()
    said = text.strip().partition("\n")[0].lower().rstrip("?").split()
    places = [place for place, word in enumerate(said) if word == "or"]
    offered = [tuple(said[max(0, place - 1) : place + 2]) for place in places]
    return (*said[:words], *offered)


def others_of_a_kind(
    questions: Sequence[str], rounds: int, seed: int = 0
) -> np.ndarray:
    """Draw for every question another one of its kind, whose answer it is dealt.

    A kind is the finest that holds another question.

    Args:
        questions (Sequence[str]): two or more.
        rounds (int): draws per question.
        seed (int): of the draws.

    Returns:
        np.ndarray: (rounds, questions) int, places in ``questions``.

    Raises:
        ValueError: for less than two questions.
    """
    if len(questions) < 2:
        raise ValueError(f"{len(questions)} questions: expected another one to each.")
    rng = np.random.default_rng(seed)
    others = np.empty((rounds, len(questions)), dtype=np.int64)
    for words in _WORDS:
        kinds: dict[tuple, list[int]] = defaultdict(list)
        for place, text in enumerate(questions):
            kinds[question_kind(text, words)].append(place)
        for members in kinds.values():
            size = len(members)
            if size > 1:
                steps = rng.integers(1, size, (rounds, size))
                drawn = (np.arange(size) + steps) % size
                others[:, members] = np.asarray(members)[drawn]
    return others
