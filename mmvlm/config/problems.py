"""What the doctor finds: problems, collected and raised together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """A config that must not run.

    Args:
        config (str): the config's path as shown to the user.
        problems (list[str]): one message each, with place and advice.

    """

    def __init__(self, config: str, problems: list[str]) -> None:
        self.config, self.problems = config, list(problems)
        number = len(self.problems)
        head = f"{config}: {number} problem{'s' if number != 1 else ''}"
        super().__init__("\n  - ".join([head, *self.problems]))

    def __reduce__(self) -> tuple:
        return type(self), (self.config, self.problems)


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest choices, or an empty string."""
    table = {str(choice).lower(): str(choice) for choice in choices}
    found = difflib.get_close_matches(str(word).lower(), table, n=3, cutoff=0.6)
    if not found:
        return ""
    return f" Did you mean {' or '.join(repr(table[name]) for name in found)}?"


def listing(choices: Iterable[Any], limit: int = 12) -> str:
    """Return the choices as a short sentence part."""
    names = sorted(str(choice) for choice in choices)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
