"""What a rule is, and the list of all of them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from typing import ClassVar, Literal

from .specimen import Specimen

#: ``problem``: the sample cannot be trained on as it is, it is quarantined;
#: ``warning``: worth a look; ``note``: a count.
Level = Literal["problem", "warning", "note"]

_RULES: dict[str, type[Rule]] = {}


class Rule:
    """One thing that may be wrong; a subclass says what, in a file of its own.

    A rule looks at one sample (:meth:`check`), counts something
    (:meth:`tally`), or names what no two samples may share (:meth:`keys`).
    """

    #: Short name, for tables and ``--ignore``.
    name: ClassVar[str]
    level: ClassVar[Level] = "problem"
    #: Order in tables.
    order: ClassVar[int] = 50
    #: Reading errors with these words are reported under this rule.
    claims: ClassVar[str | None] = None
    #: What two samples share that have a key in common.
    shared: ClassVar[str] = "the content"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield what is wrong with a sample."""
        return ()

    def tally(self, specimen: Specimen) -> Iterable[str]:
        """Yield names of what is counted, as often as it occurs."""
        return ()

    def keys(self, specimen: Specimen) -> Iterable[tuple[int, int]]:
        """Yield (key, owner): every owner of a key but the first is a finding."""
        return ()

    def takes(self, error: str) -> bool:
        """Whether an error of the reader belongs to this rule."""
        return self.claims is not None and re.search(self.claims, error) is not None


def rule(cls: type[Rule]) -> type[Rule]:
    """Add a class to the list of rules.

    Raises:
        KeyError: when its name is taken.
    """
    if cls.name in _RULES:
        raise KeyError(f"two data rules are named '{cls.name}'.")
    _RULES[cls.name] = cls
    return cls


def all_rules(ignore: Iterable[str] = ()) -> list[Rule]:
    """Return one object of every rule, in order.

    Args:
        ignore (Iterable[str]): names to leave out.

    Raises:
        ValueError: for a name that no rule has.
    """
    from . import rules

    for info in pkgutil.iter_modules(rules.__path__):
        importlib.import_module(f"{rules.__name__}.{info.name}")
    ignore = set(ignore)
    unknown = sorted(ignore - set(_RULES))
    if unknown:
        raise ValueError(
            f"no data rule is named {unknown}; there are {sorted(_RULES)}."
        )
    chosen = sorted(_RULES.values(), key=lambda cls: (cls.order, cls.name))
    return [cls() for cls in chosen if cls.name not in ignore]
