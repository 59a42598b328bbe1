"""Find a shipped config by its name."""

from __future__ import annotations

import os
from pathlib import Path

from .problems import nearest
from .work_dir import CONFIG, is_work_dir


def config_roots() -> list[Path]:
    """Return the folders that hold shipped configs: the wheel's and the clone's."""
    package = Path(__file__).resolve().parents[1]
    roots = [package / ".mim" / "configs", package.parent / "configs"]
    return [root for root in roots if root.is_dir()]


def find_config(path: str | os.PathLike) -> str:
    """Return the file that a path or the name of a shipped config means.

    Raises:
        FileNotFoundError: with the nearest names.
    """
    text = os.fspath(path)
    if is_work_dir(text):
        return os.path.join(text, CONFIG)
    if os.path.isfile(text):
        return text
    target = Path(text).with_suffix("") if text.endswith(".py") else Path(text)
    shipped: dict[str, Path] = {}
    for root in config_roots():
        for file in sorted(root.rglob("*.py")):
            relative = file.relative_to(root)
            if relative.parts[0] != "_base_":
                shipped.setdefault(relative.with_suffix("").as_posix(), file)
    tail = target.as_posix().removeprefix("configs/")
    matches = [
        f for n, f in shipped.items() if n == tail or n.rsplit("/", 1)[-1] == tail
    ]
    if len(matches) == 1:
        return str(matches[0])
    hint = nearest(tail, [*shipped, *(n.rsplit("/", 1)[-1] for n in shipped)])
    raise FileNotFoundError(f"no config '{text}'.{hint}")
