"""Build a DataLoader from a config, around batch samplers."""

from __future__ import annotations

import copy
import gc
import inspect
import random
import signal
import sys
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, IterableDataset

from mmvlm.datasets.processor import with_pipeline
from mmvlm.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS
from mmvlm.utils import signals


def one_thread_worker(
    worker_id: int, *, seed: int, num_workers: int, ends_with_tool: bool = False
) -> None:
    """Seed a worker and give it one thread, as workers are many.

    Args:
        worker_id (int): number of the worker on this rank.
        seed (int): of the run.
        num_workers (int): workers per rank.
        ends_with_tool (bool): the main process heeds signals and kills its workers
            at its end; elsewhere SIGTERM is how the loader ends one that is stuck.
    """
    if ends_with_tool:  # a signal to the whole process group is not ours
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        import cv2
    except ImportError:
        pass
    else:
        cv2.setNumThreads(0)
    worker_seed = (seed + get_rank() * num_workers + worker_id) % 2**32
    random.seed(worker_seed)
    np.random.seed(worker_seed)
    torch.manual_seed(worker_seed)


class FrozenLoader(DataLoader):
    """Loader whose workers share their parent's objects for as long as they live.

    A garbage collection writes into the head of every object that it visits, and a
    forked worker gets a copy of each page that is written to: 160 MB in each worker
    of a set of 640K records. Frozen objects are not visited. The parent's are so
    only while workers are forked: what it drops later must be collected.
    """

    def _get_iterator(self) -> Any:
        if not self.num_workers:
            return super()._get_iterator()
        gc.collect()
        gc.freeze()
        try:
            return super()._get_iterator()
        finally:
            gc.unfreeze()


class RowLoader(FrozenLoader):
    """Loader of a dataset that nobody knows the length of.

    mmengine asks every loader for its length, to turn schedules by epoch into
    schedules by step. The answer is that an epoch is longer than any run;
    :class:`VLMTrainLoop` refuses schedules that would believe it.
    """

    def __len__(self) -> int:
        """Return more than any run has."""
        return sys.maxsize


def build_dataloader(
    cfg: Any,
    *,
    seed: int | None = None,
    processor: Any = None,
    accumulation: int = 1,
    training: bool = True,
) -> DataLoader:
    """Build dataset, batch sampler and loader.

    A sampler whose constructor takes ``batch_size`` is a batch sampler (ours are);
    any other is handed to the loader as it is.

    Args:
        cfg (dict | DataLoader): keys ``dataset``, ``batch_size``, ``sampler``,
            ``collate_fn`` (default: ``collate_flat``) and arguments of
            ``torch.utils.data.DataLoader``. A built loader is returned as it is.
        seed (int | None): of the sampler's plan.
        processor (VLMProcessor | None): bound to the dataset; gives its steps to
            readers without a pipeline.
        accumulation (int): micro-batches per optimizer step, for samplers that ask.
        training (bool): picks the default sampler, random or sequential.

    A dataset that comes row by row deals its batches itself and takes no sampler.

    Raises:
        TypeError: when ``cfg`` is neither a dict nor a loader.
        ValueError: for such a dataset with a sampler or another batch size, or
            outside of training.
    """
    if isinstance(cfg, DataLoader):
        return cfg
    if not isinstance(cfg, dict):
        raise TypeError(f"dataloader: expected a dict or DataLoader, got {type(cfg)}.")
    cfg = dict(copy.deepcopy(cfg))
    dataset = cfg.pop("dataset")
    if isinstance(dataset, dict):
        mode = "train" if training else "generate"
        dataset = DATASETS.build(with_pipeline(dataset, processor, mode))
    if processor is not None and hasattr(dataset, "bind"):
        dataset.bind(processor)

    sampler_cfg = cfg.pop("sampler", None)
    loader_args = dict(
        collate_fn=_collate(cfg.pop("collate_fn", None)),
        worker_init_fn=partial(
            one_thread_worker,
            seed=seed or 0,
            num_workers=cfg.get("num_workers", 0),
            ends_with_tool=signals.installed(),
        ),
        generator=torch.Generator(),
    )
    if cfg.get("num_workers", 0) == 0:
        # A config for many workers must also run in one process (debugging).
        for key in ("persistent_workers", "prefetch_factor", "multiprocessing_context"):
            cfg.pop(key, None)
    if isinstance(dataset, IterableDataset):
        _check_rows(dataset, cfg, sampler_cfg, training)
        return RowLoader(dataset=dataset, **loader_args, **cfg)
    default = "RandomBatchSampler" if training else "SequentialBatchSampler"
    sampler_cfg = dict(sampler_cfg or dict(type=default))
    defaults = dict(
        dataset=dataset,
        seed=seed if seed is not None else 0,
        batch_size=cfg.get("batch_size", 1),
        accumulation=accumulation,
    )
    accepted = _accepted(sampler_cfg["type"], defaults)
    sampler = DATA_SAMPLERS.build(
        sampler_cfg, default_args={k: defaults[k] for k in accepted}
    )
    if "batch_size" in accepted:
        cfg.pop("batch_size", None)
        loader_args["batch_sampler"] = sampler
    else:
        loader_args["sampler"] = sampler
    loader_args.update(cfg)
    return FrozenLoader(dataset=dataset, **loader_args)


def _check_rows(dataset: Any, cfg: dict, sampler: Any, training: bool) -> None:
    """Refuse what a dataset without length cannot do."""
    own = getattr(dataset, "batch_size", None)
    if not training:
        raise ValueError(
            f"dataloader.dataset: {type(dataset).__name__} has no length; test and "
            "validate on a data set with random access."
        )
    if sampler is not None:
        raise ValueError(
            f"train_dataloader.sampler={sampler}: {type(dataset).__name__} deals its "
            "batches itself; leave sampler out."
        )
    if own is not None and cfg.get("batch_size", 1) != own:
        raise ValueError(
            f"train_dataloader.batch_size={cfg.get('batch_size', 1)}, but its "
            f"{type(dataset).__name__} deals batches of {own}; give both one value."
        )


def _accepted(kind: Any, defaults: dict) -> set[str]:
    """Return which of the arguments a sampler's constructor takes."""
    cls = DATA_SAMPLERS.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        raise KeyError(
            f"dataloader.sampler.type='{kind}': no such sampler. Registered: "
            f"{sorted(DATA_SAMPLERS.module_dict)}."
        )
    parameters = inspect.signature(cls).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return set(defaults)
    return set(defaults) & set(parameters)


def _collate(cfg: Any) -> Any:
    cfg = "collate_flat" if cfg is None else cfg
    if isinstance(cfg, str):
        cfg = dict(type=cfg)
    if not isinstance(cfg, dict):
        return cfg
    cfg = dict(cfg)
    kind = cfg.pop("type")
    function = FUNCTIONS.get(kind) if isinstance(kind, str) else kind
    if function is None:
        raise KeyError(
            f"dataloader.collate_fn.type='{kind}': no such function. Registered: "
            f"{sorted(FUNCTIONS.module_dict)}."
        )
    return partial(function, **cfg) if cfg else function
