"""Naming a region: whether an answer holds its class (Ferret's task on LVIS)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DENIALS = [re.compile(rf"\s+{word}[^,.]*[,.]") for word in ("not", "no")]


def without_denials(text: str) -> str:
    """Return a text without what it denies, as Ferret's evaluation cuts it.

    From `` not`` or `` no`` up to the next comma or period all goes, also where these
    letters begin another word.

    Example:
        >>> without_denials("It is a dog, not a cat.")
        'It is a dog,'
    """
    for denial in _DENIALS:
        text = denial.sub("", text)
    return text


def class_names(name: str, synonyms: Iterable[str] = ()) -> list[str]:
    """Return the words that count as a class.

    Underscores become spaces, and of a synonym in two parts (``bus_(vehicle)``) both
    count; the name itself is taken as it is.
    """
    names = [name]
    for synonym in synonyms:
        names += synonym.replace(")", "").split("(") if "(" in synonym else [synonym]
    plain = [one.replace("_", " ").strip() for one in names]
    return [one for one in plain if one]


def names_region(text: str, name: str, synonyms: Iterable[str] = ()) -> bool:
    """Tell whether an answer names a class; case counts, as in the official code."""
    said = without_denials(text)
    return any(one in said for one in class_names(name, synonyms))


def names_region_loosely(text: str, name: str, synonyms: Iterable[str] = ()) -> bool:
    """Tell the same without regard to case."""
    said = without_denials(text).lower()
    return any(one.lower() in said for one in class_names(name, synonyms))
