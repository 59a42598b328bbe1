"""MMMU: reading options and open answers.

Source: MMMU-Benchmark/MMMU: mmmu/utils/eval_utils.py, mmmu/utils/data_utils.py.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

DOMAINS = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": "Basic_Medical_Science Clinical_Medicine "
    "Diagnostics_and_Laboratory_Medicine Pharmacy Public_Health",
    "Humanities and Social Science": "History Literature Sociology Psychology",
    "Tech and Engineering": "Agriculture Architecture_and_Engineering "
    "Computer_Science Electronics Energy_and_Power Materials Mechanical_Engineering",
}
DOMAIN_OF = {
    subject: domain for domain, names in DOMAINS.items() for subject in names.split()
}

_INDICATORS = (
    *("could be ", "so ", "is ", "thus "),
    *("therefore ", "final ", "answer ", "result "),
)
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def read_option(text: str, options: Mapping[str, str]) -> str | None:
    """Return the letter that the answer names last, or None.

    Letters in brackets come first, then letters between blanks, then, in answers of
    more than five words, the options' texts.

    Args:
        text (str): the answer.
        options (Mapping): letter to text.
    """
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    lower = text.lower()
    places = {key: text.rfind(f"({key})") for key in options}
    if not _found(places):
        places = {key: text.rfind(f" {key} ") for key in options}
    if not _found(places) and len(text.split()) > 5:
        places = {key: lower.rfind(option.lower()) for key, option in options.items()}
    return max(places, key=places.__getitem__) if _found(places) else None


def _found(places: Mapping[str, int]) -> bool:
    return any(place >= 0 for place in places.values())


def normalise_open(text: str) -> list[str | float]:
    """Return a number rounded to two decimals, or the lower-case text.

    A single character stands with a blank before and after it.
    """
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def read_open(text: str) -> list[str | float]:
    """Return the texts and numbers that an open answer may mean, without doubles."""
    text = text.strip().strip(".").lower()
    parts = text.split("\n")
    tails = []
    for index, part in enumerate(parts):
        indicators = (*_INDICATORS, "=") if index == len(parts) - 1 else _INDICATORS
        shortest = ""
        for word in indicators:
            if word in part:
                tail = part.split(word)[-1].strip()
                if not shortest or len(tail) < len(shortest):
                    shortest = tail
        if shortest and shortest not in {":", ",", ".", "!", "?", ";", "'"}:
            tails.append(shortest)
    tails = tails or [text]
    numbers = [n for tail in tails for form in _NUMBERS for n in form.findall(tail)]
    found = [value for part in tails + numbers for value in normalise_open(part)]
    return list(dict.fromkeys(found))


def open_is_right(found: Sequence[str | float], answer: str | Sequence[str]) -> bool:
    """Tell whether a text contains an answer, or a number equals it."""
    answers = [answer] if isinstance(answer, str) else answer
    targets = [value for one in answers for value in normalise_open(str(one))]
    texts = [target for target in targets if isinstance(target, str)]
    return any(
        any(target in value for target in texts)
        if isinstance(value, str)
        else value in targets
        for value in found
    )


def random_option(uid: str, options: Mapping[str, str], seed: int = 42) -> str:
    """Draw an option for an answer that names none, the same for a uid in any order."""
    return random.Random(f"{seed}/{uid}").choice(sorted(options))
