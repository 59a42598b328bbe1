"""Import modules by what they register: a name, or everything below a folder."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parents[1]
_DECORATOR = re.compile(
    r"^@(\w+)\.register_module\(([^)]*)\)\n(?=(?:@.*\n)*(?:class|def) (\w+))", re.M
)
#: Registers names that only running the module tells.
_CALL = re.compile(r"^ +(\w+)\.register_module\($", re.M)


class RegisteredModules(MutableMapping):
    """What a registry of mmvlm holds, imported when its name is looked up.

    The sources below the registry's folders are searched for its decorators, so
    that a component is one file still, and a run imports the components of its
    config only. Iterating imports them all.

    Args:
        node (str): the registry's name in the sources, such as ``MODELS``.
        folders (Sequence[str]): below the package, such as ``engine/runner``.
    """

    def __init__(self, node: str, *folders: str) -> None:
        self.node, self.folders = node, folders
        self._imported: dict[str, Any] = {}

    @cached_property
    def modules(self) -> dict[str | None, list[str]]:
        """Registered name to the modules that register it; None: names unknown."""
        found: dict[str | None, list[str]] = {}
        for folder in self.folders:
            for file in sorted((_PACKAGE / folder).rglob("*.py")):
                text = file.read_text(encoding="utf-8")
                inside = file.relative_to(_PACKAGE.parent).with_suffix("").parts
                module = ".".join(inside).removesuffix(".__init__")
                for node, arguments, name in _DECORATOR.findall(text):
                    if node == self.node:
                        for one in re.findall('"(.+?)"', arguments) or [name]:
                            found.setdefault(one, []).append(module)
                if self.node in _CALL.findall(text):
                    found.setdefault(None, []).append(module)
        return found

    def __getitem__(self, name: str) -> Any:
        if name not in self._imported:
            for module in self.modules.get(name) or self.modules.get(None, ()):
                importlib.import_module(module)
        return self._imported[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._imported[name] = value

    def __delitem__(self, name: str) -> None:
        del self._imported[name]

    def __iter__(self) -> Iterator[str]:
        for modules in self.modules.values():
            for module in modules:
                importlib.import_module(module)
        return iter(self._imported)

    def __len__(self) -> int:
        return sum(1 for _ in self)
