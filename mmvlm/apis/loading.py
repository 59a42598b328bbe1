"""From a config and a checkpoint to a model that is ready to be used."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.utils.precision import cast_weights


@dataclass
class LoadedModel:
    """A model in eval mode with what it was built from.

    Args:
        cfg (Config): checked by the config doctor.
        model (VisionLanguageModel): weights loaded, bound to ``processor``.
        processor (VLMProcessor): of the config, bound to the model.
    """

    cfg: Config
    model: Any
    processor: VLMProcessor

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device


def load_model(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    cfg_options: dict | None = None,
    tiny: bool = False,
    full_precision_base: bool = False,
) -> LoadedModel:
    """Build the model of a config and load its weights.

    Parts that the checkpoint holds whole are built without their pretrained
    weights, so ``name_or_path`` of those need not be there.

    Args:
        config (str | PathLike | Config): a work dir or a checkpoint in one, a
            config file, the name of a shipped config, or a config that
            ``load_config`` gave.
        checkpoint (str | PathLike | None): of mmvlm; None takes the newest of a
            work dir, and beside a config the pretrained weights of the parts and
            the config's ``load_from``.
        device (str | torch.device | None): None takes CUDA if there is one.
        dtype (torch.dtype | None): of the weights; None keeps the config's.
        cfg_options (dict | None): as ``--cfg-options``.
        tiny (bool): the config's tiny twin.
        full_precision_base (bool): leave ``quantization`` out.

    Raises:
        FileNotFoundError: no such config or checkpoint.
        ValueError: a checkpoint that does not fit, or holds nothing for the model.
    """
    from mmvlm.config.own_files import split_model
    from mmvlm.engine.runner.checkpoint import load_file, load_parts
    from mmvlm.engine.runner.setup import load_initial_weights
    from mmvlm.registry import MODELS

    config, checkpoint = split_model(config, checkpoint)
    cfg = as_config(config, cfg_options, tiny)
    content = None if checkpoint is None else load_file(checkpoint)
    model_cfg = copy.deepcopy(cfg.model.to_dict())
    if full_precision_base:
        for part in model_cfg.values():
            if isinstance(part, dict):
                part.pop("quantization", None)
    if content is not None:
        model_cfg = without_pretrained(model_cfg, content["state_dict"])
    model = MODELS.build(model_cfg)
    processor = VLMProcessor.from_config(cfg, model)
    if processor is None:
        raise ValueError(
            "the config names no tokenizer and chat_template: give it a processor."
        )
    model.bind(processor)
    if content is None or content["meta"].get("omitted"):
        model.init_weights()
        load_initial_weights(model, cfg.get("load_from"))
        if content is None:
            _tell_random_parts(cfg, model)
    if content is not None:
        load_parts(model, {**content, "path": str(checkpoint)})
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = cast_weights(model, dtype, device)
    return LoadedModel(cfg, model.eval(), processor)


def _tell_random_parts(cfg: Config, model: Any) -> None:
    """Warn once when components have the weights they were drawn with."""
    from mmvlm.config.sources import random_parts

    random = random_parts(cfg, model)
    if random:
        print_log(
            f"no checkpoint given, and neither load_from nor a part of the config "
            f"names weights for {random}: they are random.",
            logger="current",
            level=logging.WARNING,
        )


def as_config(
    config: str | os.PathLike | Config, cfg_options: dict | None, tiny: bool
) -> Config:
    """Return the checked config of a path, a name or a config.

    Raises:
        TypeError: for anything else.
        ValueError: for options beside a config object.
    """
    from mmvlm.config import load_config

    if isinstance(config, Config):
        if cfg_options or tiny:
            raise ValueError("cfg_options and tiny go with a config's path or name.")
        return config
    if not isinstance(config, str | os.PathLike):
        raise TypeError(
            f"config: expected a path, a name or a Config, got {type(config).__name__}."
        )
    return load_config(config, cfg_options=cfg_options, tiny=tiny, check_sources=False)


def without_pretrained(model_cfg: dict, keys: Iterable[str]) -> dict:
    """Drop the sources of parts whose every weight is among ``keys``.

    Args:
        model_cfg (dict): the ``model`` entry of a config.
        keys (Iterable[str]): of a checkpoint's state dict.

    Returns:
        dict: a copy. A component without ``config`` keeps its path, as nothing
        else says what to build.
    """
    from mmvlm.export.importing import meta_state

    keys = set(keys)
    result = copy.deepcopy(dict(model_cfg))
    parts = {name: part for name, part in result.items() if isinstance(part, dict)}
    if not any(_drop_sources(copy.deepcopy(part)) for part in parts.values()):
        return result
    plain = copy.deepcopy(result)
    for part in plain.values():
        if isinstance(part, dict):
            part.pop("quantization", None)
    expected = meta_state(plain)
    for name, part in parts.items():
        wanted = {key for key in expected if key.startswith(f"{name}.")}
        for path in _drop_sources(part) if wanted and wanted <= keys else ():
            print_log(
                f"{name}: the checkpoint holds it whole, '{path}' is not read.",
                logger="current",
                level=logging.INFO,
            )
    return result


def _drop_sources(part: Any) -> list[str]:
    """Take out what names pretrained weights, at any depth; return what went."""
    if isinstance(part, list | tuple):
        return [path for item in part for path in _drop_sources(item)]
    if not isinstance(part, dict):
        return []
    dropped = []
    if "type" in part:
        names = ["pretrained", "checkpoint", "checkpoint_path"]
        names += ["name_or_path"] if part.get("config") else []
        dropped = [str(part.pop(name)) for name in names if part.get(name)]
    return dropped + [path for item in part.values() for path in _drop_sources(item)]
