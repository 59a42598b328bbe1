"""Import every public module of a package, so that its classes register."""

from __future__ import annotations

import importlib
import pkgutil


def import_submodules(package: str, path: list[str]) -> list[str]:
    """Import all modules of ``package`` whose name has no leading underscore.

    Adding a component is adding a file: no list of modules is kept by hand.

    Args:
        package (str): dotted name of the package (``__name__``).
        path (list[str]): its ``__path__``.

    Returns:
        list[str]: dotted names of what was imported.

    """
    names = [
        f"{package}.{info.name}"
        for info in pkgutil.iter_modules(path)
        if not info.name.startswith("_")
    ]
    for name in names:
        importlib.import_module(name)
    return names
