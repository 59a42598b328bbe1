"""Checks that need more than one value: parts, batch size, files, template."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .problems import listing, nearest

if TYPE_CHECKING:
    from .check import Doctor

#: Parts that a system may have; those present are keys of ``model``.
PARTS = ("vision_encoder", "connector", "region_encoder", "language_model", "head")


def check_parts(doctor: Doctor) -> None:
    """Freezing and learning rates may only name parts that the model has."""
    model = doctor.cfg.get("model") or {}
    parts = [part for part in PARTS if part in model]
    if not parts:
        return
    paths = ("model.train_parts", "optim_wrapper.paramwise_cfg.parts")
    for path in paths:
        for part in _at(doctor.cfg, path) or {}:
            if part not in parts:
                doctor.report(
                    f"{path}.{part}",
                    f"the model has no part '{part}'.{nearest(part, parts)} "
                    f"Its parts: {listing(parts)}.",
                )


def _at(cfg: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(cfg, dict) and not hasattr(cfg, "get"):
            return None
        cfg = cfg.get(key)
        if cfg is None:
            return None
    return cfg


def launched_world_size() -> int | None:
    """Return the processes that torchrun or Slurm started, None without either."""
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return None


def check_batch(doctor: Doctor, world_size: int | None) -> None:
    """Compare the effective global batch with the one the LR was chosen for."""
    from .names import parse_name

    wanted = doctor.cfg.get("base_batch_size")
    batch = _at(doctor.cfg, "train_dataloader.batch_size")
    if not wanted or not batch:
        return
    if world_size is None:
        world_size = launched_world_size()
    if world_size is None:
        parsed = parse_name(doctor.trace.path, strict=False)
        world_size = parsed.gpus if parsed else 1
    steps = _at(doctor.cfg, "optim_wrapper.accumulative_counts") or 1
    effective = world_size * batch * steps
    if effective != wanted:
        doctor.warnings.append(
            f"{doctor.place('base_batch_size')}: the learning rate was chosen for a "
            f"global batch of {wanted}, but {world_size} GPU x {batch} x "
            f"{steps} accumulated = {effective}. Change the number of GPUs, "
            "train_dataloader.batch_size or optim_wrapper.accumulative_counts, or "
            "scale the learning rate."
        )


def check_template(doctor: Doctor) -> None:
    """Refuse a chat template whose answers have no end that could be learnt."""
    if any(p.startswith("chat_template") for p in doctor.problems):
        return
    config = doctor.cfg.get("chat_template")
    if config is None:
        return
    from mmvlm.registry import CHAT_TEMPLATES
    from mmvlm.structures import Conversation

    config = dict(type=config) if isinstance(config, str) else config
    if not isinstance(config, dict):
        return
    try:
        template = CHAT_TEMPLATES.build(dict(config))
    except Exception as error:  # whatever a constructor says, said with its place
        doctor.report("chat_template", f"cannot be built: {error}")
        return
    answer = "mmvlm-answer"
    try:
        pieces = template.render(Conversation.from_texts("question", answer))
    except (ValueError, RuntimeError):
        return  # wants more than plain text: a tokenizer or a picture
    said = "".join(piece.text for piece in pieces if piece.supervised)
    if said.partition(answer)[2] == "":
        doctor.report(
            "chat_template",
            "an answer ends with no supervised end mark (EOS), so the model would "
            "never learn to stop. Give the template an end such as '</s>'.",
            config.get("type"),
        )


def check_files(doctor: Doctor, which: bool | Iterable[str]) -> None:
    """Report annotation files, picture folders and checkpoints that are missing."""
    names = ("train", "val", "test") if which is True else tuple(which)
    for path, config, _ in doctor.components:
        head = path.split(".", 1)[0]
        if head in {f"{name}_dataloader" for name in names}:
            _dataset_files(doctor, path, config)
    checkpoints = doctor.cfg.get("load_from") or []
    if isinstance(checkpoints, (str, dict)):
        checkpoints = [checkpoints]
    for number, item in enumerate(checkpoints):
        file = item if isinstance(item, str) else item.get("path")
        if isinstance(file, str) and "://" not in file and not os.path.exists(file):
            single = not isinstance(doctor.cfg["load_from"], (list, tuple))
            path = "load_from" if single else f"load_from.{number}"
            doctor.report(path, f"no such checkpoint '{file}'.")


def _dataset_files(doctor: Doctor, path: str, config: dict) -> None:
    root = config.get("data_root") or ""
    for key, word in (("ann_file", "file"), ("image_prefix", "folder")):
        value = config.get(key)
        if not isinstance(value, str) or "://" in value:
            continue
        full = os.path.join(root, value)
        if not os.path.exists(full):
            doctor.report(
                f"{path}.{key}",
                f"no such {word} '{full}'. Put it there or set {path}.data_root.",
                value,
            )
