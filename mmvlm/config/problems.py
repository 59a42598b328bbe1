"""What the doctor finds: problems, collected and raised together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from .origin import ConfigTrace


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


def short(value: Any, limit: int = 80) -> str:
    """Return a value as text of at most ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 4] + " ..."


class Findings:
    """The problems and warnings of one config, and what was found on the way.

    Args:
        cfg (mmengine.Config | dict): merged config.
        trace (ConfigTrace): origins of its values.
    """

    def __init__(self, cfg: Any, trace: ConfigTrace) -> None:
        self.cfg, self.trace = cfg, trace
        self.problems: list[str] = []
        self.warnings: list[str] = []
        #: Top-level names that are variables of the files, not fields.
        self.helpers: list[str] = []
        #: The model without weights, if :func:`rules.check_build` could build it.
        self.model: Any = None
        #: (path, config, class) of every component found, in order.
        self.components: list[tuple[str, dict, Any]] = []

    def place(self, path: str) -> str:
        """Return ``path (file:line)`` for a message."""
        return f"{path} ({self.trace.where(path)})"

    def report(self, path: str, message: str, value: Any = ...) -> None:
        """Note a problem at a path; ``value`` is shown when given."""
        shown = "" if value is ... else f"={short(value)}"
        self.problems.append(f"{path}{shown} ({self.trace.where(path)}): {message}")
