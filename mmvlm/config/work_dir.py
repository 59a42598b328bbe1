"""What lies in a work dir beside its weights, and which of them is the newest."""

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
PATHS = frozenset(
    "name_or_path pretrained checkpoint checkpoint_path load_from path folder "
    "data_root".split()
)
#: below the ``data_root`` of the same dataset if it has one,
DATA_PATHS = frozenset(
    "ann_file image_prefix label_prefix image_map explanatory_file split_file "
    "answer_file context_file ocr_file".split()
)
#: beside its annotations, and what is written.
PATH_KEYS = PATHS | DATA_PATHS | {"instances_file", "image_data", "also"}
PATH_KEYS |= {"file", "cache_dir", "masks_file"}
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
    folder, parts = Path(folder), list(components(cfg._cfg_dict))
    write_atomic(folder / CONFIG, text)
    configs = {
        where: config
        for where, part in parts
        if where.startswith("model.")
        and part.get("name_or_path")
        and not part.get("config")
        and (config := _own_config(where, part)) is not None
    }
    facts = dict(
        folder=os.getcwd(),
        configs=configs,
        tokenizers=_write_tokenizers(folder, parts, tokenizer),
    )
    write_atomic(folder / MODEL, json.dumps(facts, indent=2, default=str))


def _write_tokenizers(folder: Path, parts: list, tokenizer: Any) -> dict[str, str]:
    """Save the run's tokenizer and those of other components, by place."""
    from mmvlm.registry import TOKENIZERS

    written, names = {}, {}
    own = next((w for w, _ in parts if w in _OWN), "tokenizer")
    trust = dict(parts).get(own, {}).get("trust_remote_code", False)
    if tokenizer is not None and _write_tokenizer(folder / TOKENIZER, tokenizer, trust):
        written[own] = TOKENIZER
    for where, part in parts:
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


def components(value: Any, where: str = "") -> Iterator[tuple[str, dict]]:
    """Yield the components of a config with their dotted places."""
    if isinstance(value, dict):
        if "type" in value:
            yield where, value
        for key in list(value):
            yield from components(value[key], f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from components(item, f"{where}.{number}")


# Finding -----------------------------------------------------------------------


def is_work_dir(path: Any) -> bool:
    """Whether a path is the folder of a run, with its config."""
    return isinstance(path, str | os.PathLike) and (Path(path) / CONFIG).is_file()


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
