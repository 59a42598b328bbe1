"""A work dir as a model: what lies beside its weights, and the config made of it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmvlm.utils.files import whole_folder, write_atomic

CONFIG, TOKENIZER, MODEL = "config.py", "tokenizer", "model.json"
#: Where a config names the run's own tokenizer.
_OWN = ("tokenizer", "processor.tokenizer")
#: Keywords that name files or folders, relative to where a run was started,
_PATHS = frozenset(
    "name_or_path pretrained checkpoint checkpoint_path load_from path folder "
    "data_root".split()
)
#: below the ``data_root`` of the same data set if it has one,
_DATA_PATHS = frozenset(
    "ann_file image_prefix label_prefix image_map explanatory_file split_file "
    "answer_file context_file ocr_file".split()
)
#: beside its annotations, and what is written.
PATH_KEYS = _PATHS | _DATA_PATHS | {"instances_file", "image_data", "also"}
PATH_KEYS |= {"file", "cache_dir"}
#: Text with what tokenizers treat differently: spaces, digits, marks, other scripts.
_PROBE = "<s>  A cat's 12\n\tUSER: \u00e9 \u732b</s> <image> {}"


# Writing -----------------------------------------------------------------------


def write_model_files(
    folder: str | os.PathLike, text: str, cfg: Any, tokenizer: Any
) -> None:
    """Write what else a checkpoint needs to be used: config, tokenizers, facts.

    Args:
        folder (str | PathLike): the work dir.
        text (str): the resolved config.
        cfg (mmengine.Config): the same as an object.
        tokenizer (Any): as the run uses it; None writes none.
    """
    folder, components = Path(folder), list(_components(cfg._cfg_dict))
    write_atomic(folder / CONFIG, text)
    configs = {
        where: config
        for where, part in components
        if where.startswith("model.")
        and part.get("name_or_path")
        and not part.get("config")
        and (config := _own_config(where, part)) is not None
    }
    facts = dict(
        folder=os.getcwd(),
        configs=configs,
        tokenizers=_write_tokenizers(folder, components, tokenizer),
    )
    write_atomic(folder / MODEL, json.dumps(facts, indent=2, default=str))


def _write_tokenizers(folder: Path, components: list, tokenizer: Any) -> dict[str, str]:
    """Save the run's tokenizer and those of other components, by place."""
    from mmvlm.registry import TOKENIZERS

    written, names = {}, {}
    own = next((w for w, _ in components if w in _OWN), "tokenizer")
    trust = dict(components).get(own, {}).get("trust_remote_code", False)
    if tokenizer is not None and _write_tokenizer(folder / TOKENIZER, tokenizer, trust):
        written[own] = TOKENIZER
    for where, part in components:
        if where in _OWN or part["type"] != "HFTokenizer":
            continue
        same = json.dumps(part, sort_keys=True, default=str)
        if same not in names:
            name, own = f"{TOKENIZER}_{len(names) + 2}", TOKENIZERS.build(dict(part))
            trust = part.get("trust_remote_code", False)
            whole = _write_tokenizer(folder / name, own, trust)
            names[same] = name if whole else None
        if names[same]:
            written[where] = names[same]
    return written


def _own_config(where: str, part: dict) -> dict | None:
    """Return the architecture that lies beside the weights of a part."""
    from mmvlm.models.utils.hf_loading import plain_fields, resolve_config
    from mmvlm.models.vision_encoders.base import VisionEncoder
    from mmvlm.registry import MODELS

    if part.get("trust_remote_code"):
        return None  # code in that folder builds it, no class of transformers
    kind = part["type"]
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    vision = isinstance(kind, type) and issubclass(kind, VisionEncoder)
    return plain_fields(
        resolve_config(part["name_or_path"], None, where, vision=vision)[0]
    )


def _write_tokenizer(folder: Path, tokenizer: Any, trust: bool) -> bool:
    """Save a tokenizer; whether the same one is read again.

    Of one that is not, the config goes on to name the source.
    """
    with whole_folder(folder, replace=True) as temporary:
        tokenizer.save_pretrained(str(temporary))
        differs = _difference(temporary, tokenizer, trust)
    if differs:
        print_log(
            f"{folder}: {type(tokenizer).__name__} {differs} when it is saved and read "
            "again: whoever uses the work dir makes it as its config says.",
            logger="current",
            level=logging.WARNING,
        )
    return not differs


def _difference(folder: Path, tokenizer: Any, trust: bool) -> str:
    """Say how the tokenizer in a folder is not the one that was saved there."""
    from transformers import AutoTokenizer

    try:
        again = AutoTokenizer.from_pretrained(
            str(folder), use_fast=tokenizer.is_fast, trust_remote_code=trust
        )
    except Exception as error:  # whatever code of others raises
        return f"fails ({type(error).__name__}: {str(error).strip():.200})"
    same = (
        again.get_vocab() == tokenizer.get_vocab()
        and again.special_tokens_map == tokenizer.special_tokens_map
        and again(_PROBE)["input_ids"] == tokenizer(_PROBE)["input_ids"]
    )
    return "" if same else "is another tokenizer"


def _components(value: Any, where: str = "") -> Iterator[tuple[str, dict]]:
    """Yield the components of a config with their dotted places."""
    if isinstance(value, dict):
        if "type" in value:
            yield where, value
        for key in list(value):
            yield from _components(value[key], f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _components(item, f"{where}.{number}")


# Reading -----------------------------------------------------------------------


def is_work_dir(path: Any) -> bool:
    """Whether a path is the folder of a run, with its config."""
    return isinstance(path, str | os.PathLike) and (Path(path) / CONFIG).is_file()


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
    for where, part in _components(cfg._cfg_dict):
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
    own = _PATHS if rooted else _PATHS | _DATA_PATHS
    for key, item in list(items):
        if isinstance(item, dict | list):
            _settle_paths(item, origin)
        elif origin and key in own and isinstance(item, str) and item:
            path = os.path.join(origin, os.path.expanduser(item))
            if os.path.exists(path):
                value[key] = path


__all__ = [
    "PATH_KEYS",
    "is_work_dir",
    "split_model",
    "use_own_files",
    "write_model_files",
]


def find_last(folder: str | os.PathLike) -> str | None:
    """Return the newest checkpoint of a folder, None when there is none."""
    note = Path(folder) / "last_checkpoint"
    if not note.is_file():
        return None
    path = Path(folder) / note.read_text().strip()
    if not path.is_file():
        raise FileNotFoundError(
            f"'{note}' names '{path.name}', which is not there. Name a checkpoint "
            f"itself, or delete '{note}' to start anew."
        )
    return str(path)


def resolve_checkpoint(path: str | os.PathLike) -> Path:
    """Return the file that a path means; a work dir means its newest checkpoint.

    Raises:
        FileNotFoundError: naming the path and what lies in its folder.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        newest = find_last(path)
        if newest is not None:
            return Path(newest)
        what = f"'{path}' holds no checkpoint of a run: it has no file last_checkpoint"
        folder = path
    else:
        what, folder = f"checkpoint '{path}' does not exist", path.parent
    near = sorted(p.name for p in folder.glob("*.pth")) if folder.is_dir() else []
    raise FileNotFoundError(f"{what}. Checkpoints in that folder: {near or 'none'}.")
