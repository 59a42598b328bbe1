"""What the runner does with a config: context, weights, hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from mmengine.logging import print_log
from torch import nn

from mmvlm.config.sources import weight_problems
from mmvlm.config.work_dir import find_last, resolve_checkpoint
from mmvlm.datasets.processor import VLMProcessor

from .checkpoint import load_file, load_parts, unwrap


def accumulation_of(optim_wrapper: Any) -> int:
    """Return the micro-batches per optimizer step of a wrapper or its config."""
    if optim_wrapper is None:
        return 1
    if isinstance(optim_wrapper, dict):
        return int(optim_wrapper.get("accumulative_counts", 1))
    return int(getattr(optim_wrapper, "accumulative_counts", 1))


def batch_size_of(loader: Any) -> int | None:
    """Return the samples of a micro-batch; None for a loader that is built."""
    return loader.get("batch_size") if isinstance(loader, dict) else None


def check_batch_size(cfg: Any, loader: Any, accumulation: int, ranks: int) -> None:
    """Log the global batch size and compare it with what the LR was chosen for.

    Args:
        cfg (mmengine.Config): may hold ``base_batch_size``.
        loader (dict | DataLoader): of training samples.
        accumulation (int): micro-batches per optimizer step and rank.
        ranks (int): number of processes.
    """
    batch = batch_size_of(loader)
    if batch is None:
        return
    total = batch * accumulation * ranks
    text = f"Global batch: {ranks} ranks x {batch} x {accumulation} = {total} samples"
    base = cfg.get("base_batch_size") if cfg else None
    if base is None or base == total:
        print_log(f"{text}.", "current", logging.INFO)
        return
    count = max(1, round(base / (batch * ranks)))
    print_log(
        f"{text}, but the learning rate was chosen for {base}. Set "
        f"optim_wrapper.accumulative_counts={count}, or scale the learning rate by "
        f"{total / base:g}.",
        "current",
        logging.WARNING,
    )


def make_processor(cfg: Any, model: nn.Module) -> VLMProcessor | None:
    """Build the processor and bind it to the model, and the model to it.

    None for configs that name no tokenizer (towers trained without text).
    """
    model = unwrap(model)
    processor = VLMProcessor.from_config(cfg, model) if cfg else None
    if processor is None:
        return None
    if hasattr(model, "bind"):
        model.bind(processor)
    return processor


def load_initial_weights(model: nn.Module, load_from: Any) -> None:
    """Load the files that a new run starts from.

    Args:
        model (nn.Module): wrapped or not.
        load_from (str | dict | list | None): a path, ``dict(path=..., parts=[...],
            rename={...}, strict=..., allow_pickle=...)`` (see :func:`load_parts`),
            or a list of them, in order. A path may be a work dir, which means its
            newest checkpoint.

    Raises:
        FileNotFoundError: naming the key, when there is no checkpoint.
    """
    if not load_from:
        return
    single = not isinstance(load_from, list | tuple)
    for number, entry in enumerate([load_from] if single else load_from):
        key = "load_from" if single else f"load_from.{number}"
        entry = dict(path=entry) if isinstance(entry, str) else dict(entry)
        known = {"path", "parts", "rename", "strict", "allow_pickle", "grow"}
        unknown = sorted(set(entry) - known)
        if unknown or "path" not in entry:
            raise ValueError(
                f"{key}={entry}: expected path and optionally parts, rename, "
                f"strict, allow_pickle, grow; unknown: {unknown}."
            )
        try:
            path = resolve_checkpoint(entry.pop("path"))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{key}: {error}") from error
        load_parts(model, path, **entry)


def warn_random_weights(cfg: Any, model: nn.Module) -> None:
    """Warn once of parts that start from random weights though nothing says so.

    The doctor refuses them in configs; this is for runs that are built without it.

    Args:
        cfg (mmengine.Config): of the run.
        model (nn.Module): built from it.
    """
    if not cfg or not isinstance(cfg.get("model"), dict):
        return
    problems, suspects = weight_problems(cfg, unwrap(model))
    if problems or suspects:
        said = "; ".join(f"{path}: {text}" for path, text in problems + suspects)
        print_log(f"Random weights: {said}", "current", logging.WARNING)


def load_trained(model: nn.Module, path: str, load_from: Any = None) -> None:
    """Load a trained checkpoint for testing.

    Args:
        model (nn.Module): wrapped or not.
        path (str): a checkpoint of ours, whole or trainable-only.
        load_from (Any): the config's ``load_from``; it gives the parts that a
            trainable-only file leaves out.
    """
    content = load_file(path)
    if content["meta"].get("omitted"):
        load_initial_weights(model, load_from)
    load_parts(model, dict(content, path=path))


def resume_path(resume: Any, work_dir: str) -> str | None:
    """Return the checkpoint to resume, None for a new run.

    Args:
        resume (bool | str | None): ``True`` or ``'auto'`` take the newest of
            ``work_dir``, if there is one; a path names one.
        work_dir (str): of the run.
    """
    if not resume:
        return None
    if resume is True or resume == "auto":
        path = find_last(work_dir)
        if path is None:
            print_log(
                f"No checkpoint in '{work_dir}': a new run starts.",
                "current",
                logging.INFO,
            )
        return path
    return str(resume)


def start_weights(
    model: nn.Module, load_from: Any, resume: Any, work_dir: str
) -> Callable[[Any], None] | None:
    """Give the model the weights that the run begins with.

    Returns:
        Callable | None: gives a runner the training state of the checkpoint; None
        for a new run.
    """
    path = resume_path(resume, work_dir)
    if path is None:
        load_initial_weights(model, load_from)
        return None
    from .resume import read_resumable, resume_training_state, resume_weights

    content = read_resumable(path)
    if content["meta"]["omitted"]:
        load_initial_weights(model, load_from)
    resume_weights(model, content, path)
    return partial(resume_training_state, content=content, path=path)


def tell_model_about_ranks(model: nn.Module, world_size: int, sharded: bool) -> None:
    """Have every batch touch all parts where ranks need it.

    Ranks that exchange gradients of a part, or gather its weights, must all run it in
    every step, whatever their inputs are; else the others wait for ever.

    Args:
        model (nn.Module): the bare model.
        world_size (int): number of processes.
        sharded (bool): whether weights are gathered when a part runs.
    """
    if not hasattr(model, "touch_all_parts") or world_size == 1:
        return
    parts = [part for name, part in model.parts.items() if name != "language_model"]
    trained = any(p.requires_grad for part in parts for p in part.parameters())
    model.is_sharded = sharded
    model.touch_all_parts = bool(parts) and (trained or sharded)


def default_hooks(hooks: dict | None) -> dict:
    """Return a config's ``default_hooks`` over those that our runner starts from.

    A hook set to None is left out.
    """
    merged: dict[str, Any] = dict(
        logger=dict(type="ProgressHook"),
        # Our samplers know their epoch from the stream.
        sampler_seed=None,
        checkpoint=dict(type="VLMCheckpointHook"),
        non_finite=dict(type="NonFiniteLossHook"),
        bad_samples=dict(type="BadSamplesHook"),
        provenance=dict(type="ProvenanceHook"),
        replies=dict(type="SampleRepliesHook"),
        loss_plot=dict(type="LossPlotHook"),
    )
    merged.update(hooks or {})
    known = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler")
    return {
        name: hook
        for name, hook in merged.items()
        if hook is not None or name in (*known, "checkpoint")
    }
