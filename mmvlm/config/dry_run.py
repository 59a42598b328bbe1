"""Build a model without weights and say what it is: parts, tokens, memory."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmvlm.datasets.processor import VLMProcessor, pipelines, views_in

from .memory import ActivationSize, PartSize, estimate
from .names import parse_name
from .parts import part_configs
from .sources import weight_sources

_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, None: 4}
#: Height and width in pixels of the picture that the token budget is told for.
_SAMPLE_PICTURE = (480, 640)


@dataclass
class PartRow:
    """One line of the part table.

    Args:
        part (str): name.
        type (str): class.
        parameters (int): all weights.
        trainable (int): trained weights.
        lr (float | None): learning rate; None where nothing is trained.
    """

    part: str
    type: str
    parameters: int
    trainable: int
    lr: float | None


@dataclass
class DryRun:
    """What the dry run found.

    Args:
        config (str): file.
        parts (list[PartRow]): the part table.
        widths (dict[str, int]): channels of encoder and language model.
        select_layers (list[int]): hidden states that the connector takes.
        image_tokens (int | None): LLM positions of a sample picture.
        token_budget (str | None): from pixels to tokens, in words.
        batch (dict[str, int]): ``gpus``, ``per_gpu``, ``accumulation``, ``global``.
        max_length (int): most tokens of a sample.
        strategy (str): the row of ``memory`` that the config asks for.
        memory (dict): GiB per GPU by strategy.
        sources (list[str]): where the weights of each component come from.
    """

    config: str
    parts: list[PartRow]
    widths: dict[str, int]
    select_layers: list[int]
    image_tokens: int | None
    token_budget: str | None
    batch: dict[str, int]
    max_length: int
    strategy: str
    memory: dict[str, dict[str, float]]
    sources: list[str]

    @property
    def parameters(self) -> int:
        """All weights."""
        return sum(row.parameters for row in self.parts)

    @property
    def trainable(self) -> int:
        """Trained weights."""
        return sum(row.trainable for row in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        totals = dict(parameters=self.parameters, trainable=self.trainable)
        return {**dataclasses.asdict(self), **totals}


def dry_run(cfg: Any, gpus: int | None = None) -> DryRun:
    """Build ``cfg.model`` on the meta device and describe it.

    No weight is read and no memory for one is taken; the architecture must
    stand in the config (``config=dict(model_type=...)``) where weights are
    named by a path.

    Args:
        cfg (mmengine.Config): a checked config.
        gpus (int | None): processes; None takes the number in the file name.

    Raises:
        ValueError: if a part cannot be built without its weights.
    """
    bits = _without_quantization(cfg["model"])[1]
    model = build_on_meta(cfg["model"])
    name = parse_name(cfg.filename or "", strict=False)
    gpus = gpus or (name.gpus if name else 1)
    parts = _part_rows(model, cfg)
    count, budget = token_budget(cfg, model)
    return DryRun(
        config=cfg.filename or "",
        parts=parts,
        widths=_widths(model),
        select_layers=list(getattr(_part(model, "connector"), "select_layers", ())),
        image_tokens=count,
        token_budget=budget,
        batch=_batch(cfg, gpus),
        max_length=_max_length(cfg, model),
        strategy=_strategy(cfg, gpus),
        memory=_memory(cfg, model, parts, bits, gpus),
        sources=[str(source) for source in weight_sources(cfg)],
    )


def build_on_meta(model: dict) -> Any:
    """Build a model without memory for its weights.

    Args:
        model (dict): ``model`` of a config.
    """
    import torch

    from mmvlm.registry import MODELS

    offline = _offline(_without_quantization(model)[0])
    with torch.device("meta"):
        return MODELS.build(offline)


def without_options(model: dict, *names: str) -> dict:
    """Return a model's config whose parts lack some optional keywords.

    Args:
        model (dict): ``model`` of a config.
        *names (str): keywords that say nothing of the architecture.
    """
    result = {key: value for key, value in model.items() if key not in names}
    for key, part in result.items():
        if isinstance(part, dict) and "type" in part:
            result[key] = without_options(part, *names)
    return result


def is_offline(model: Any) -> bool:
    """Whether a model's config tells its whole architecture."""
    if isinstance(model, dict):
        if "type" in model and not isinstance(model["type"], str):
            return False  # a lazy config may hold functions that load weights
        path = model.get("name_or_path")
        if path and not model.get("config"):
            config = os.path.join(os.path.expanduser(path), "config.json")
            if not os.path.isfile(config):
                return False
        if any(model.get(key) for key in ("pretrained", "checkpoint", "init_cfg")):
            return False
        return all(is_offline(value) for value in model.values())
    if isinstance(model, (list, tuple)):
        return all(is_offline(value) for value in model)
    return True


def _strategy(cfg: Any, gpus: int) -> str:
    """Return the row of the memory table that the config asks for."""
    strategy = cfg.get("strategy") or {}
    kind = strategy.get("type", "DDP" if gpus > 1 else "single")
    name = kind if isinstance(kind, str) else kind.__name__
    if "DeepSpeed" in name:
        return f"zero{(strategy.get('zero_optimization') or {}).get('stage', 0)}"
    if "FSDP" in name and not strategy.get("reshard_after_forward", True):
        return "fsdp_grad_op"
    known = {"ddp": "DDP", "fsdp": "FSDP", "single": "single"}
    return next((key for key, word in known.items() if word in name), name)


def _part(model: Any, name: str) -> Any:
    return dict(getattr(model, "parts", {})).get(name)


def _without_quantization(model: dict) -> tuple[dict, dict[str, int]]:
    """Return the config without ``quantization``, and the bits by part.

    Quantised layers hold packed weights, whose number says nothing of the
    architecture; and the package that makes them may not be installed.
    """
    result, bits = dict(model), {}
    for name, part in model.items():
        if isinstance(part, dict) and part.get("quantization"):
            bits[name] = part["quantization"].get("bits", 4)
            result[name] = {k: v for k, v in part.items() if k != "quantization"}
    return result, bits


def _offline(model: dict) -> dict:
    """Drop paths to weights wherever the architecture is written beside them."""
    result = dict(model)
    for name, part in model.items():
        if not isinstance(part, dict):
            continue
        if part.get("config") and part.get("name_or_path"):
            part = {k: v for k, v in part.items() if k != "name_or_path"}
        result[name] = _offline(part) if "type" in part else part
    return result


def _part_rows(model: Any, cfg: Any) -> list[PartRow]:
    from mmvlm.engine.optimizers.part_constructor import (
        PartOptimWrapperConstructor,
        split_parts,
    )

    wrapper = cfg.get("optim_wrapper") or {}
    base_lr = (wrapper.get("optimizer") or {}).get("lr")
    by_part = (wrapper.get("paramwise_cfg") or {}).get("parts") or {}
    rules = PartOptimWrapperConstructor(dict(wrapper), dict(parts=by_part))
    modules = dict(getattr(model, "parts", None) or {"model": model})
    rows, seen = [], set()
    for name, module in split_parts(modules, by_part).items():
        own = [p for p in module.parameters() if id(p) not in seen]
        seen.update(id(p) for p in own)
        sizes = [(p.numel(), p.requires_grad) for p in own]
        trainable = sum(size for size, train in sizes if train)
        rate = rules.settings(name).get("lr", base_lr)
        rows.append(
            PartRow(
                part=name,
                type=type(module).__name__,
                parameters=sum(size for size, _ in sizes),
                trainable=trainable,
                lr=rate if trainable else None,
            )
        )
    return rows


def _widths(model: Any) -> dict[str, int]:
    widths = {n: e.spec.width for n, e in getattr(model, "encoders", {}).items()}
    language_model = _part(model, "language_model")
    if language_model is not None:
        widths["language_model"] = language_model.width
    return widths


def _batch(cfg: Any, gpus: int) -> dict[str, int]:
    per_gpu = (cfg.get("train_dataloader") or {}).get("batch_size") or 1
    steps = (cfg.get("optim_wrapper") or {}).get("accumulative_counts") or 1
    batch = dict(gpus=gpus, per_gpu=per_gpu, accumulation=steps)
    return {**batch, "global": gpus * per_gpu * steps}


def token_budget(cfg: Any, model: Any) -> tuple[int | None, str | None]:
    """Follow a picture of 640 x 480 pixels from pixels to LLM positions.

    Returns:
        tuple: the number of positions and the line that tells the way, such as
        ``336x336 -> 24x24 grid -> 576 tokens -> 576 tokens``; None and None for a
        model without pictures.
    """
    from mmvlm.models.utils.own_grids import grid_options
    from mmvlm.structures.dual_perspective import DualPerspective
    from mmvlm.structures.vision import grids_of

    spec = getattr(model, "vision_spec", None)
    count = getattr(model, "token_count", None)
    if spec is None or count is None:
        return None, None
    layout = sample_layout(training_steps(cfg), model)
    height, width = layout.view_size
    rows, cols = spec.grid(height, width)
    grids = grids_of((layout,), spec.patch_size) or [(rows, cols)] * layout.num_views
    grid_options(model.vision_encoder, [model.connector], (layout,))
    patches, tokens = sum(map(math.prod, grids)), count(layout)
    which = DualPerspective.of(layout)
    which = f" ({which})" if which else ""
    views = f"{layout.num_views} views{which} of " if layout.num_views > 1 else ""
    times = f" ({layout.num_views} views)" if layout.num_views > 1 else ""
    return tokens, (
        f"{views}{width}x{height} -> {cols}x{rows} grid -> "
        f"{patches} tokens{times} -> {tokens} tokens"
    )


def length_limits(cfg: Any, *loaders: str) -> Iterator[tuple[str, dict, list]]:
    """Yield path, step and pipeline of every ``max_length``.

    Args:
        cfg (mmengine.Config): the config.
        *loaders (str): see :func:`pipelines`.
    """
    for path, steps in pipelines(cfg, *loaders):
        for number, step in enumerate(steps):
            if isinstance(step, dict) and step.get("max_length"):
                place = path if path == "processor" else f"{path}.{number}"
                yield f"{place}.max_length", step, steps


def training_length(cfg: Any) -> int | None:
    """Return the most tokens of a training sample, of several sets the first's."""
    found = length_limits(cfg, "train_dataloader")
    return next((step["max_length"] for _, step, _ in found), None)


def training_steps(cfg: Any) -> list:
    """Return the steps of all training pipelines, one behind the other."""
    return [step for _, steps in pipelines(cfg, "train_dataloader") for step in steps]


def sample_tokens(
    cfg: Any, model: Any, *loaders: str
) -> Iterator[tuple[str, int, int]]:
    """Yield path, tokens of a picture and limit for every ``max_length``."""
    spec = getattr(model, "vision_spec", None)
    count = getattr(model, "token_count", None)
    if spec is None or count is None:
        return
    for where, step, steps in length_limits(cfg, *loaders):
        tokens, limit = count(sample_layout(steps, model)), step["max_length"]
        if not step.get("count_pictures", True):
            limit += tokens - 1
        yield where, tokens, limit


def sample_layout(steps: Sequence[Any], model: Any) -> Any:
    """Return the layout that the first view transform of a pipeline gives.

    Args:
        steps (Sequence[dict]): of the pipeline.
        model (VisionLanguageModel): with a vision encoder.
    """
    import numpy as np

    from mmvlm.registry import TRANSFORMS
    from mmvlm.structures import ViewLayout

    spec, views = model.vision_spec, getattr(model, "asked_views", None)
    for step in views_in(steps):
        transform = TRANSFORMS.build(dict(step))
        transform.bind(VLMProcessor(spec=spec, asked_views=views))
        picture = np.zeros((*_SAMPLE_PICTURE, 3), dtype=np.uint8)
        item = dict(images=[picture], rng=np.random.default_rng(0))
        return transform(item)["layouts"][0]
    return views or ViewLayout(_SAMPLE_PICTURE, (spec.image_size, spec.image_size))


def _max_length(cfg: Any, model: Any) -> int:
    known = [limit for _, _, limit in sample_tokens(cfg, model, "train_dataloader")]
    known += [
        step["max_length"] for _, step, _ in length_limits(cfg, "train_dataloader")
    ]
    return max(known, default=2048)


def _memory(cfg: Any, model: Any, rows: list, bits: dict, gpus: int) -> dict:
    from mmvlm.engine.optimizers.optim_wrapper import wrapper_dtype

    sizes, parts = [], part_configs(cfg["model"])
    for row in rows:
        part = parts[row.part].config if row.part in parts else {}
        dtype = part.get("torch_dtype") if isinstance(part, dict) else None
        width = bits[row.part] / 8 if row.part in bits else _DTYPE_BYTES.get(dtype, 4)
        sizes.append(PartSize(row.parameters, row.trainable, width))
    half = wrapper_dtype(cfg.get("optim_wrapper")) is not None
    return estimate(sizes, _activations(cfg, model, rows), gpus, half)


def _activations(cfg: Any, model: Any, rows: list) -> int:
    language_model = _part(model, "language_model")
    config = getattr(language_model, "config", None)
    if config is None or not any(row.trainable for row in rows):
        return 0
    per_gpu = (cfg.get("train_dataloader") or {}).get("batch_size") or 1
    vocab = language_model.vocab_size
    text = cfg["model"].get("language_model") or {}
    size = ActivationSize(
        tokens=per_gpu * _max_length(cfg, model),
        width=language_model.width,
        layers=config.num_hidden_layers,
        intermediate=getattr(config, "intermediate_size", 4 * config.hidden_size),
        vocab=vocab,
        checkpointing=text.get("gradient_checkpointing", "off") != "off",
        logit_rows=max(1, getattr(model, "max_logits", 2**25) // vocab),
    )
    return size.total()


def render(result: DryRun, width: int = 100) -> str:
    """Return the dry run as text tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=width, record=True, file=_Nowhere(), highlight=False)
    table = Table()
    table.add_column("part")
    table.add_column("type")
    for name in ("parameters", "trainable", "lr"):
        table.add_column(name, justify="right")
    for row in result.parts:
        rate = "-" if row.lr is None else f"{row.lr:g}"
        table.add_row(
            row.part, row.type, f"{row.parameters:,}", f"{row.trainable:,}", rate
        )
    table.add_section()
    table.add_row("total", "", f"{result.parameters:,}", f"{result.trainable:,}", "")
    console.print(table)
    for number, source in enumerate(result.sources):
        lead = " " * 9 if number else "weights: "
        console.print(lead + source, markup=False, soft_wrap=True)
    console.print("widths: " + ", ".join(f"{k} {v}" for k, v in result.widths.items()))
    if result.token_budget:
        layers = ", ".join(str(layer) for layer in result.select_layers)
        console.print(f"a picture: {result.token_budget} (select_layers {layers})")
    batch = result.batch
    console.print(
        f"batch: {batch['gpus']} GPU x {batch['per_gpu']} x {batch['accumulation']} "
        f"accumulated = {batch['global']}; strategy: {result.strategy}"
    )
    console.print(
        f"GiB per GPU on {batch['gpus']} GPU, rough, every sample at its full "
        f"{result.max_length} tokens:"
    )
    memory = Table()
    memory.add_column("strategy")
    columns = ("weights", "gradients", "optimizer", "activations", "total")
    for name in columns:
        memory.add_column(name, justify="right")
    for strategy, values in result.memory.items():
        mark = "> " if strategy == result.strategy else "  "
        memory.add_row(mark + strategy, *(f"{values[name]:.1f}" for name in columns))
    console.print(memory)
    return console.export_text()


class _Nowhere:
    """A file that forgets; the console is recorded instead."""

    def write(self, text: str) -> int:
        """Take the text and keep nothing."""
        return len(text)

    def flush(self) -> None:
        """Do nothing."""
