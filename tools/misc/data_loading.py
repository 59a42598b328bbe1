"""Datasets of a config, bound to its tokenizer and to the shapes of its model."""

from __future__ import annotations

import argparse
import ast
import copy
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import DictAction

from mmvlm.config import load_config
from mmvlm.datasets.processor import VLMProcessor, with_pipeline


@dataclass
class OpenedData:
    """Datasets that were opened for a tool.

    Args:
        datasets (list): readers or mixtures.
        training (bool): whether their answers are trained.
        processor (VLMProcessor | None): what they are bound to.
        notes (list[str]): why they are not, where they are not.
    """

    datasets: list[Any]
    training: bool
    processor: VLMProcessor | None = None
    notes: list[str] = field(default_factory=list)


def open_data(
    config: str | None,
    split: str = "train",
    *,
    dataset: str | None = None,
    options: dict | None = None,
    tiny: bool = False,
) -> OpenedData:
    """Open what a command line names: a config's datasets, or one reader.

    Args:
        config (str | None): file or shipped name.
        split (str): ``train``, ``val`` or ``test``.
        dataset (str | None): in its place, a reader as ``dict(type=..., ...)``; it has
            no tokenizer and stays unbound.
        options (dict | None): changes of the config.
        tiny (bool): take the config's tiny twin.

    Raises:
        ConfigError: naming what is wrong with the config.
        ValueError: when a text is no dict, or a file cannot be read.
    """
    if dataset is None:
        return open_config_data(
            load_config(config, options, tiny=tiny, check_sources=False), split
        )
    note = "--dataset has no tokenizer: no views, no tokens, no lengths."
    reader = build_dataset(parse_dict(dataset))
    return OpenedData([reader], split == "train", notes=[note])


def open_config_data(cfg: Any, split: str = "train") -> OpenedData:
    """Open the datasets of a config's loader.

    The model is built without weights, for the shapes that the pipeline needs;
    where that or the tokenizer cannot be had, datasets stay unbound, and ``notes``
    say why.

    Args:
        cfg (mmengine.Config): checked.
        split (str): ``train``, ``val`` or ``test``.

    Raises:
        ValueError: without such a loader, or when a file cannot be read.
        FileNotFoundError: when a file is missing.
    """
    loaders = cfg.get(f"{split}_dataloader")
    if not loaders:
        raise ValueError(f"the config has no {split}_dataloader.")
    loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
    opened = OpenedData([], split == "train")
    opened.processor = _processor(cfg, opened.notes)
    mode = "train" if opened.training else "generate"
    for loader in loaders:
        config = with_pipeline(loader["dataset"], opened.processor, mode)
        opened.datasets.append(build_dataset(config))
        if opened.processor is not None:
            opened.datasets[-1].bind(opened.processor)
    return opened


def build_dataset(cfg: Any) -> Any:
    """Build a dataset of a config.

    Raises:
        ValueError: when it is no config, or a file cannot be read.
    """
    from mmvlm.registry import DATASETS

    if not isinstance(cfg, dict) or "type" not in cfg:
        raise ValueError(f"expected a dict with type=..., got {cfg!r:.100}.")
    return DATASETS.build(copy.deepcopy(dict(cfg)))


def _processor(cfg: Any, notes: list[str]) -> VLMProcessor | None:
    """Return the config's processor; None, with a note, when it cannot be built."""
    from mmvlm.config.meta_model import build_on_meta

    try:
        processor = VLMProcessor.from_config(cfg, build_on_meta(cfg["model"]))
        if processor is None:
            notes.append(
                "the config names no tokenizer: no token lengths were checked."
            )
        return processor
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        notes.append(
            "token lengths were not checked, as tokenizer or model cannot be built: "
            f"{error}"
        )
        return None


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what :func:`open_data` takes."""
    parser.add_argument("config", nargs="?", help="config file or shipped name")
    parser.add_argument("--dataset", help="one reader, as dict(type=..., ...)")
    parser.add_argument("--split", default="train", choices=("train", "val", "test"))
    parser.add_argument("--tiny", action="store_true", help="the config's tiny twin")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="k=v")


def open_from_arguments(args: argparse.Namespace) -> OpenedData:
    """Open what the command line names.

    Raises:
        ValueError: for a config and ``--dataset``, or neither; also as
            :func:`open_data`.
    """
    if (args.config is None) == (args.dataset is None):
        raise ValueError("give a config, or --dataset.")
    return open_data(
        args.config,
        args.split,
        dataset=args.dataset,
        options=args.cfg_options,
        tiny=args.tiny,
    )


def parse_dict(text: str) -> dict:
    """Read ``dict(type='LLaVADataset', ...)`` or ``{...}``; runs no code.

    Raises:
        ValueError: for anything but calls of ``dict`` and literals.
    """
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise ValueError(f"--dataset {text!r:.80}: {error.msg}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"--dataset {text!r:.80}: expected dict(type=..., ...).")
    return value


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args:
            raise ValueError(f"{ast.unparse(node)!r:.80}: only dict(...) is called.")
        return {item.arg: _value(item.value) for item in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [_value(key) for key in node.keys]
        return dict(zip(keys, map(_value, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    return ast.literal_eval(node)
