"""Load a config, apply the command line, and let the doctor look at it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from .check import check_config
from .find import config_roots, find_config
from .old_keys import rename_old_keys
from .origin import ConfigTrace, shown_path
from .positions import DATALOADERS, FIELDS, PLAIN_FIELDS
from .problems import ConfigError, nearest
from .work_dir import is_work_dir


def load_config(
    path: str | os.PathLike,
    cfg_options: dict[str, Any] | None = None,
    tiny: bool = False,
    check: bool = True,
    check_files: bool | Iterable[str] = False,
    *,
    check_sources: bool = True,
) -> Config:
    """Load a config as every entry point does.

    Args:
        path (str | os.PathLike): a config file, the name of a shipped one (with or
            without folder and ``.py``), or a work dir, whose own files are used
            (see :func:`mmvlm.config.own_files.use_own_files`).
        cfg_options (dict | None): dotted path to value. A path must exist, or
            start with ``+`` to add a key.
        tiny (bool): swap encoder, language model, tokenizer and data for tiny
            twins that train on a CPU in seconds.
        check (bool): run the doctor.
        check_files (bool | Iterable[str]): also look for data files; see
            :func:`mmvlm.config.check_config`.
        check_sources (bool): refuse parts whose weights nothing names; not where a
            checkpoint brings them.

    Returns:
        mmengine.Config: merged; warnings have been logged. Variables that the
        files use but no field is made of are left out when it was checked.

    Raises:
        ConfigError: listing every problem found.
        FileNotFoundError: if there is no such config.
    """
    folder = path if is_work_dir(path) else None
    path = find_config(path)
    trace = ConfigTrace.read(path)
    _refuse_mixed(trace)
    cfg = _read(path, trace)
    if folder is not None:
        from .own_files import use_own_files

        use_own_files(cfg, folder)
    problems = _apply_options(cfg, trace, cfg_options or {})
    for line in rename_old_keys(cfg._cfg_dict):
        print_log(f"deprecated: {line}", logger="current", level=logging.WARNING)
    if "lazy" not in trace.dialects.values():
        _drop_delete_marks(cfg._cfg_dict)
    if tiny and not problems:
        from .tiny import make_tiny

        make_tiny(cfg)
    if check:
        doctor = check_config(
            cfg,
            trace,
            check_files=not tiny and check_files,
            check_sources=check_sources,
        )
        problems += [p for p in doctor.problems if p not in problems]
        for warning in doctor.warnings if not problems and not tiny else []:
            print_log(warning, logger="current", level=logging.WARNING)
    if problems:
        raise ConfigError(trace.path, problems)
    for name in doctor.helpers if check else ():
        cfg.pop(name)  # so that the config that a run writes down loads again
    return cfg


def _drop_delete_marks(value: Any) -> None:
    """Take out each ``_delete_=True`` that had no parent to delete from.

    mmengine leaves such marks in the merged config, where constructors stumble
    over them.
    """
    if isinstance(value, dict):
        value.pop("_delete_", None)
        for item in dict.values(value):
            _drop_delete_marks(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _drop_delete_marks(item)


def _read(path: str, trace: ConfigTrace) -> Config:
    """Let mmengine read and merge the chain; say where it cannot."""
    try:
        return Config.fromfile(path)
    except (TypeError, KeyError, SyntaxError, NameError, AttributeError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        message = f"the chain {' -> '.join(trace.files)} cannot be merged: {text}"
        raise ConfigError(trace.path, [message]) from error


def _refuse_mixed(trace: ConfigTrace) -> None:
    kinds = set(trace.dialects.values())
    if len(kinds) > 1:
        parts = ", ".join(f"{file} is {kind}" for file, kind in trace.dialects.items())
        raise ConfigError(
            trace.path,
            [
                "the chain mixes text configs (_base_ lists) and lazy configs "
                f"(read_base()): {parts}. Write the whole chain in one of the two."
            ],
        )


def _apply_options(cfg: Config, trace: ConfigTrace, options: dict) -> list[str]:
    """Merge ``--cfg-options``; return the problems of paths that do not exist."""
    problems, merged = [], {}
    for key, value in options.items():
        path = key.removeprefix("+")
        problem = None if key.startswith("+") else _missing(cfg, path, value)
        if problem:
            problems.append(problem)
            continue
        merged[path] = value
    for path, value in merged.items():
        try:
            cfg.merge_from_dict({path: value})
        except (KeyError, TypeError, AttributeError) as error:
            problems.append(f"{path}={value!r} (--cfg-options): {error}")
            continue
        trace.set(path, value)
    return problems


def _missing(cfg: Config, path: str, value: Any) -> str | None:
    """Return a message if a dotted path does not exist in the config."""
    keys, node = path.split("."), cfg
    known = {*FIELDS, *PLAIN_FIELDS, *DATALOADERS}
    for depth, key in enumerate(keys):
        if isinstance(node, (list, tuple)):
            if key.isdigit() and int(key) < len(node):
                node = node[int(key)]
                continue
            choices, owner = [str(i) for i in range(len(node))], "items"
        elif isinstance(node, dict) or isinstance(node, Config):
            if key in node.keys():
                node = node[key]
                continue
            if depth == 0 and key in known:
                return None
            choices, owner = list(node.keys()), "key"
        else:
            choices, owner = [], "key"
        inside = ".".join(keys[:depth]) or "the config"
        what = f"no key '{key}' in {inside}"
        if owner == "items":
            what = f"no item {key} in {inside}, which has {len(choices)}"
        elif not choices and not isinstance(node, dict):
            what = f"{inside} is {node!r:.60}, which has no key '{key}'"
        if depth == 0:
            choices += known
        advice = f" Prefix the path with + to add a key: +{path}."
        return (
            f"{path}={value!r} (--cfg-options): {what}.{nearest(key, choices)}{advice}"
        )
    return None


__all__ = ["config_roots", "find_config", "load_config", "shown_path"]
