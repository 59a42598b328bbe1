"""What is registered, by kind: for listings, docs and advice in messages."""

from __future__ import annotations

import ast
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmvlm import registry as nodes
from mmvlm.registry import Registry

from . import positions
from .benchmarks import shipped_benchmarks
from .parts import part_kinds

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Component:
    """One registered class or function.

    Args:
        name (str): what ``type=`` says.
        file (str): where it is written.
        doc (str): first line of its docstring.
    """

    name: str
    file: str
    doc: str


def registries() -> dict[str, Registry]:
    """Return mmvlm's registries by kind, such as ``chat_template``."""
    found = [n for n in vars(nodes).values() if isinstance(n, Registry)]
    return {node.name.replace(" ", "_"): node for node in found}


def component_kinds() -> list[str]:
    """Return every kind that can be listed: model parts, registries, benchmarks."""
    return [*part_kinds(), *registries(), "benchmark"]


def list_components(kind: str, inherited: bool = False) -> list[Component]:
    """Return the components of a kind, sorted by name.

    Args:
        kind (str): one of :func:`component_kinds`, such as ``connector``.
        inherited (bool): with the names of mmengine's own registry.

    Raises:
        KeyError: for an unknown kind.
    """
    if kind == "benchmark":
        return [_config(n, p) for n, p in sorted(shipped_benchmarks().items())]
    base = part_kinds().get(kind)
    registry = nodes.MODELS if base else registries()[kind]
    found = positions.names_in(registry) if inherited else registry.module_dict
    if base:
        found = {
            name: obj
            for name, obj in found.items()
            if inspect.isclass(obj) and issubclass(obj, base)
        }
    return [_describe(name, obj) for name, obj in sorted(found.items())]


def _config(name: str, path: Path) -> Component:
    """Describe a config by the first line of its docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return Component(name, os.path.relpath(path, _ROOT), doc.split("\n", 1)[0])


def _describe(name: str, obj: Any) -> Component:
    try:
        file = inspect.getsourcefile(obj) or ""
    except TypeError:
        file = getattr(obj, "__module__", "")
    inside = file.startswith(str(_ROOT)) and "site-packages" not in file
    shown = os.path.relpath(file, _ROOT) if inside else file
    doc = (inspect.getdoc(obj) or "").strip().split("\n", 1)[0]
    return Component(name, shown, doc)
