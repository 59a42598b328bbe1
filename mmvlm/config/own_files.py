"""A work dir as a model: its config, made to use what lies beside its weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .work_dir import DATA_PATHS, MODEL, PATHS, components, is_work_dir


def split_model(config: Any, checkpoint: Any = None) -> tuple[Any, Any]:
    """Return config and checkpoint of a model that may be named by one path.

    A work dir is both. A checkpoint inside a work dir brings that one's config.

    Args:
        config (Any): a config, a work dir, or a checkpoint in one.
        checkpoint (Any): a file or work dir, None when ``config`` says it all.
    """
    if checkpoint is not None:
        return config, checkpoint
    if is_work_dir(config):
        return config, config
    if isinstance(config, str | os.PathLike) and os.path.isfile(config):
        beside = Path(config).parent
        if Path(config).suffix == ".pth" and is_work_dir(beside):
            return beside, config
    return config, None


def use_own_files(cfg: Any, folder: str | os.PathLike) -> None:
    """Let a work dir's config read what lies beside it, from anywhere.

    The tokenizer is the saved one; a part without ``config`` gets that of its
    weights; relative paths are those of the folder that the run was started in,
    where they are still there.

    Args:
        cfg (mmengine.Config): read from ``folder``; changed in place.
        folder (str | PathLike): the work dir.
    """
    folder = Path(folder).absolute()
    cfg.work_dir = str(folder)
    facts = {}
    if (folder / MODEL).is_file():
        facts = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    _settle_paths(cfg._cfg_dict, facts.get("folder"))
    configs, tokenizers = facts.get("configs", {}), facts.get("tokenizers", {})
    for where, part in components(cfg._cfg_dict):
        if where in configs and not part.get("config"):
            part["config"] = configs[where]
        if where in tokenizers:
            kept = dict(part) if part["type"] == "HFTokenizer" else {}
            kept.update(
                type="HFTokenizer", name_or_path=str(folder / tokenizers[where])
            )
            kept.pop("revision", None)
            part.clear()
            part.update(kept)


def _settle_paths(value: Any, origin: str | None) -> None:
    """Make relative paths absolute that lead somewhere from ``origin``."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    rooted = isinstance(value, dict) and value.get("data_root")
    own = PATHS if rooted else PATHS | DATA_PATHS
    for key, item in list(items):
        if isinstance(item, dict | list):
            _settle_paths(item, origin)
        elif origin and key in own and isinstance(item, str) and item:
            path = os.path.join(origin, os.path.expanduser(item))
            if os.path.exists(path):
                value[key] = path
