"""What training depends on besides weights: settings, tokenizer and data of a run.

They are kept in every checkpoint that can be resumed and compared when it is: a
changed setting is refused, or taken over where the user says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dist import is_main_process

from mmvlm.config.work_dir import PATH_KEYS
from mmvlm.datasets.index.fingerprint import (
    WHOLE,
    NoFingerprint,
    content_digest,
    content_size,
    tokenizer_digest,
)
from mmvlm.utils.dist import broadcast_object

from ..optimizers.optim_wrapper import precision_here

#: Fields of a config that decide the steps of a run.
_FIELDS = (
    "model",
    "chat_template",
    "processor",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "train_dataloader",
    "randomness",
)
_DTYPE = "optim_wrapper.dtype"
#: Keys below them that change no step, besides those that say where files lie (their
#: content is compared): how fast they are read, what is only shown or generated, how
#: kernels compute.
_FREE = frozenset(
    "num_workers persistent_workers pin_memory prefetch_factor timeout "
    "multiprocessing_context val_interval val_begin deterministic generation "
    "share_equal_views max_logits gradient_checkpointing attention trust_remote_code "
    "random_init train_parts _scope_".split()
)


def run_settings(cfg: Any) -> dict[str, Any]:
    """Return every setting of a config that training depends on, by dotted path.

    ``train_parts`` is not among them: a resumed optimizer compares what it trains.
    """
    found = {path: x for name in _FIELDS for path, x in leaves(cfg.get(name), name)}
    found[_DTYPE] = precision_here(found.get(_DTYPE))  # another on another machine
    return {path: value for path, value in found.items() if value is not None}


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every setting below a value with its dotted path, file names left out."""
    if isinstance(value, dict):
        for key, item in value.items():
            # A template's image_prefix is text, no folder.
            file = key in PATH_KEYS and "chat_template" not in path
            if key not in _FREE and not file:
                yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        if all(isinstance(item, bool | int | float | str) for item in value):
            yield path, list(value)
            return
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}.{number}")
    elif value is None or isinstance(value, bool | int | float | str):
        yield path, value
    else:  # a class, or an object that was built already
        yield path, getattr(value, "__name__", type(value).__name__)


def data_facts(dataset: Any) -> dict[str, Any]:
    """Return rows and a digest of the files of a dataset and of its members.

    All members together are read whole up to 4 GiB, the smallest ones first; of the
    others pieces are, see :func:`content_digest`.
    """
    facts, sources, left = {}, {}, WHOLE
    for path, member in _members(dataset, "data"):
        try:
            facts[f"{path}.rows"] = len(member)
        except TypeError:
            pass  # a stream
        if hasattr(member, "_sources"):
            sources[path] = list(member._sources())
    sizes = {path: content_size(files) for path, files in sources.items()}
    for path in sorted(sizes, key=sizes.get):
        facts[f"{path}.content"] = content_digest(sources[path], left)
        left = max(0, left - sizes[path])
    return facts


def _members(dataset: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the datasets that a dataset is made of, by dotted path."""
    members, inner = (getattr(dataset, name, None) for name in ("datasets", "dataset"))
    if members is not None:
        for number, member in enumerate(members):
            yield from _members(member, f"{path}.{getattr(member, 'name', number)}")
    elif inner is not None:
        yield from _members(inner, path)
    else:
        yield path, dataset


def run_identity(runner: Any) -> dict[str, Any]:
    """Return, in plain values, what a run's steps depend on besides its weights.

    Every rank calls; rank 0 finds it out, once, as it reads the data.
    """
    if runner.known_identity is None:
        found = _identity(runner) if is_main_process() else None
        runner.known_identity = broadcast_object(found)
    return runner.known_identity


def _identity(runner: Any) -> dict[str, Any]:
    facts = run_settings(runner.settings)
    facts |= data_facts(runner.train_loop.dataloader.dataset)
    tokenizer = getattr(runner.processor, "tokenizer", None)
    if tokenizer is not None:
        try:
            facts["tokenizer"] = tokenizer_digest(tokenizer)
        except (NoFingerprint, AttributeError):
            facts["tokenizer"] = len(tokenizer)
    return facts
