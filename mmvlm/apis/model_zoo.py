"""Find shipped configs by name, in a clone or in the installed package."""

from __future__ import annotations

import fnmatch
import os

from mmengine.config import Config


def list_configs(pattern: str = "*") -> list[str]:
    """Return the names of shipped configs, sorted.

    Args:
        pattern (str): shell pattern, matched against ``<folder>/<name>`` and the
            name alone.

    Example:
        >>> all(name.startswith("llava/") for name in list_configs("llava/*"))
        True
    """
    from mmvlm.config.find import config_roots

    names = set()
    for root in config_roots():
        for file in root.rglob("*.py"):
            relative = file.relative_to(root).with_suffix("")
            if relative.parts[0] != "_base_":
                names.add(relative.as_posix())
    return sorted(
        name
        for name in names
        if fnmatch.fnmatch(name, pattern)
        or fnmatch.fnmatch(name.rpartition("/")[2], pattern)
    )


def get_config(
    name: str | os.PathLike, cfg_options: dict | None = None, tiny: bool = False
) -> Config:
    """Load a config by path or by the name of a shipped one; the doctor checks it.

    Args:
        name (str | PathLike): ``llava/...``, the name alone, or a path.
        cfg_options (dict | None): as ``--cfg-options``.
        tiny (bool): the tiny twin.

    Raises:
        FileNotFoundError: with the nearest names.
    """
    from mmvlm.config import load_config

    return load_config(name, cfg_options=cfg_options, tiny=tiny)
