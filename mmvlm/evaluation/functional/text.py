"""Comparing short texts."""

from __future__ import annotations

import re
from collections.abc import Iterable


def normalise(text: str) -> str:
    """Lower the case, squeeze blanks, take off final periods.

    Example:
        >>> normalise("  A Red   circle. ")
        'a red circle'
    """
    return " ".join(text.lower().split()).rstrip(".").rstrip()


def exact_match(prediction: str, answer: str) -> bool:
    """Tell whether two texts are equal once normalised."""
    return normalise(prediction) == normalise(answer)


def contains(text: str, phrase: str) -> bool:
    """Tell whether a phrase stands in a text as whole words, case apart.

    Example:
        >>> contains("It is red.", "red"), contains("It is redder.", "red")
        (True, False)
    """
    pattern = rf"(?<!\w){re.escape(normalise(phrase))}(?!\w)"
    return re.search(pattern, normalise(text)) is not None


def names_only(text: str, answer: str, choices: Iterable[str]) -> bool:
    """Tell whether a text contains the answer and no other of the choices.

    A choice that is part of the answer itself (``left`` in ``top left``) does not
    count as another one.
    """
    others = {normalise(c) for c in choices} - {normalise(answer)}
    return contains(text, answer) and not any(
        contains(text, other) for other in others if not contains(answer, other)
    )
