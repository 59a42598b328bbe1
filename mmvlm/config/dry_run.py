"""Build a model without weights and say what it is: parts, tokens, memory."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from .memory import ActivationSize, PartSize, estimate
from .meta_model import (
    build_on_meta,
    length_limits,
    sample_layout,
    sample_tokens,
    training_steps,
    without_quantization,
)
from .names import parse_name
from .parts import part_configs
from .sources import weight_sources

_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, None: 4}


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
        select_layers (list[int]): hidden states that the images' connector takes.
        image_tokens (int | None): LLM positions of a sample image.
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
    bits = without_quantization(cfg["model"])[1]
    model = build_on_meta(cfg["model"])
    name = parse_name(cfg.filename or "", strict=False)
    gpus = gpus or (name.gpus if name else 1)
    parts = _part_rows(model, cfg)
    count, budget = token_budget(cfg, model)
    return DryRun(
        config=cfg.filename or "",
        parts=parts,
        widths=_widths(model),
        select_layers=list(getattr(_image_connector(model), "select_layers", ())),
        image_tokens=count,
        token_budget=budget,
        batch=_batch(cfg, gpus),
        max_length=_max_length(cfg, model),
        strategy=_strategy(cfg, gpus),
        memory=_memory(cfg, model, parts, bits, gpus),
        sources=[str(source) for source in weight_sources(cfg)],
    )


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


def _image_connector(model: Any) -> Any:
    return getattr(model, "image_connector", None)


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
    """Follow an image of 640 x 480 pixels from pixels to LLM positions.

    Returns:
        tuple: the number of positions and the line that tells the way, such as
        ``336x336 -> 24x24 grid -> 576 tokens -> 576 tokens``; None and None for a
        model without images.
    """
    from mmvlm.models.utils.own_grids import grid_options
    from mmvlm.structures.dual_perspective import DualPerspective
    from mmvlm.structures.vision import grids_of

    spec, connector = getattr(model, "vision_spec", None), _image_connector(model)
    if spec is None or connector is None:
        return None, None
    layout = sample_layout(training_steps(cfg), model)
    height, width = layout.view_size
    rows, cols = spec.grid(height, width)
    grids = grids_of((layout,), spec.patch_size) or [(rows, cols)] * layout.num_views
    grid_options(model.image_encoder, [connector], (layout,))
    patches, tokens = sum(map(math.prod, grids)), model.token_count(layout)
    which = DualPerspective.of(layout)
    which = f" ({which})" if which else ""
    views = f"{layout.num_views} views{which} of " if layout.num_views > 1 else ""
    times = f" ({layout.num_views} views)" if layout.num_views > 1 else ""
    return tokens, (
        f"{views}{width}x{height} -> {cols}x{rows} grid -> "
        f"{patches} tokens{times} -> {tokens} tokens"
    )


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
        console.print(f"an image: {result.token_budget} (select_layers {layers})")
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
