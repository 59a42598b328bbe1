"""Checkpoint files: written atomically, read as tensors and plain values only."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from mmvlm.config.work_dir import find_last as find_last
from mmvlm.config.work_dir import resolve_checkpoint
from mmvlm.models.language_models.table_states import join_tables
from mmvlm.models.utils.freezing import is_lora_parameter
from mmvlm.utils.files import write_atomic

#: Format of the files that this module writes.
FORMAT = "mmvlm-1"


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside a data-parallel wrapper, or the module itself."""
    while is_model_wrapper(model) or type(model).__name__ == "MMDeepSpeedEngineWrapper":
        model = model.module
    return model


# Writing ---------------------------------------------------------------------


def save_atomic(obj: Any, path: str | os.PathLike) -> None:
    """Save tensors and plain values; a reader sees the old file or the new one.

    Raises:
        TypeError: naming the place of a value that ``weights_only`` would refuse.
    """
    check_plain(obj)
    write_atomic(path, lambda file: torch.save(obj, file))


def check_plain(obj: Any, where: str = "checkpoint") -> None:
    """Check that a value holds tensors, numbers, strings and containers only.

    Raises:
        TypeError: naming the place and the type.
    """
    if isinstance(obj, dict):
        for key, value in obj.items():
            if not isinstance(key, str | int | float | bool | tuple):
                raise TypeError(f"{where}: key {key!r} is a {type(key).__name__}.")
            check_plain(value, f"{where}[{key!r}]")
    elif isinstance(obj, list | tuple | set):
        for number, value in enumerate(obj):
            check_plain(value, f"{where}[{number}]")
    elif type(obj) not in _PLAIN and not isinstance(obj, torch.Tensor):
        raise TypeError(
            f"{where} is a {type(obj).__module__}.{type(obj).__name__}; a checkpoint "
            "holds tensors and plain values only. Convert it before saving."
        )


_PLAIN = (str, int, float, bool, bytes, complex, type(None), torch.dtype, torch.Size)


# Reading ---------------------------------------------------------------------


def _harmless() -> list:
    """Return the classes of mmengine's checkpoints that run nothing when loaded."""
    from mmengine.logging import HistoryBuffer

    numbers = "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]
    dtypes = {type(np.dtype(code)) for code in numbers}
    makers = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]
    named = [
        (maker, f"{module}.multiarray.{maker.__name__}")  # of numpy 1 and 2
        for maker in makers
        for module in ("numpy.core", "numpy._core")
    ]

    def method(owner: type, name: str) -> Any:
        """Stand in for getattr: buffers name their own methods, nothing else."""
        if owner is not HistoryBuffer or name not in ("mean", "max", "min", "current"):
            raise pickle.UnpicklingError(f"getattr of {owner!r:.60}, {name!r:.60}")
        return getattr(owner, name)

    named.append((method, "builtins.getattr"))
    return [HistoryBuffer, np.ndarray, np.dtype, *dtypes, *named]


def load_file(path: str | os.PathLike, *, allow_pickle: bool = False) -> dict:
    """Open a checkpoint on the CPU; its tensors are read when they are used.

    Args:
        path (str | PathLike): ``.pth`` or ``.safetensors`` file, the
            ``.safetensors.index.json`` of several, or a work dir, whose newest
            checkpoint is taken.
        allow_pickle (bool): also unpickle arbitrary objects, which runs code of the
            file; only for files whose origin is trusted (older mmengine
            checkpoints need it).

    Returns:
        dict: with ``state_dict`` at least; a bare state dict is put in one.

    Raises:
        FileNotFoundError: naming the path and what lies in its folder.
        ValueError: when the file is damaged or holds more than weights.
    """
    path = resolve_checkpoint(path)
    if path.name.endswith(".safetensors.index.json"):
        from safetensors.torch import load_file as load_safetensors

        shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
        state = {}
        for shard in shards:
            state |= load_safetensors(str(path.parent / shard))
        return dict(state_dict=state, meta={})
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file as load_safetensors

        return dict(state_dict=load_safetensors(str(path)), meta={})
    try:
        # Mapped, not read: the ranks of a machine share one copy in memory.
        with torch.serialization.safe_globals(_harmless()):
            content = torch.load(
                path,
                map_location="cpu",
                weights_only=not allow_pickle,
                mmap=zipfile.is_zipfile(path),
            )
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"checkpoint '{path}' is damaged or holds more than tensors and plain "
            "values. If you trust its origin, write its weights anew: python -c "
            f"\"import torch; c = torch.load('{path}', 'cpu', weights_only=False); "
            "torch.save(dict(state_dict=c.get('state_dict', c)), "
            f"'{path.with_suffix('.weights.pth')}')\". In a config, "
            f"load_from=dict(path='{path}', allow_pickle=True) loads it as it is. "
            f"torch says: {str(error).splitlines()[0]:.200}"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(
            f"checkpoint '{path}' cannot be read, it may be cut: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"checkpoint '{path}' holds a {type(content).__name__}, expected a dict."
        )
    if "state_dict" not in content:
        content = dict(state_dict=content, meta={})
    content.setdefault("meta", {})
    return content


@dataclass
class LoadReport:
    """What a load did, keys grouped by part.

    Args:
        path (str): the file.
        loaded (dict[str, int]): tensors loaded per part.
        missing (dict[str, list[str]]): expected but not in the file.
        unexpected (dict[str, list[str]]): in the file but not in the model.
        mismatched (dict[str, list[str]]): with both shapes.
        skipped (dict[str, int]): tensors of parts that were not asked for.
        kept (dict[str, int]): frozen tensors that the file leaves out; the model
            has them from the sources that its config names.
    """

    path: str
    loaded: dict[str, int] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    unexpected: dict[str, list[str]] = field(default_factory=dict)
    mismatched: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was missing, unexpected or of another shape."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        loaded = ", ".join(f"{part} ({n} tensors)" for part, n in self.loaded.items())
        lines = [f"'{self.path}': loaded {loaded or 'nothing'}."]
        if self.skipped:
            skipped = ", ".join(f"{part} ({n})" for part, n in self.skipped.items())
            lines.append(f"  not asked for: {skipped}")
        if self.kept:
            kept = ", ".join(f"{part} ({n})" for part, n in self.kept.items())
            lines.append(f"  frozen, from the config's own sources: {kept}")
        for title in ("missing", "unexpected", "mismatched"):
            for part, keys in getattr(self, title).items():
                more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
                lines.append(
                    f"  {title} in {part} ({len(keys)}): {', '.join(keys[:8])}{more}"
                )
        return "\n".join(lines)


def part_of(key: str) -> str:
    """Return the part that a state-dict key belongs to: its first word."""
    return key.split(".", 1)[0]


def _by_part(keys: Iterable[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for key in sorted(keys):
        grouped[part_of(key)].append(key)
    return dict(grouped)


def load_parts(
    model: nn.Module,
    path: str | os.PathLike | dict,
    parts: Sequence[str] | None = None,
    strict: bool = True,
    *,
    allow_pickle: bool = False,
    rename: dict[str, str] | None = None,
    grow: bool = False,
) -> LoadReport:
    """Load a checkpoint into a model, part by part, and log a report.

    Args:
        model (nn.Module): state-dict keys start with the part's name.
        path (str | PathLike | dict): a file, or what :func:`load_file` returned.
        parts (Sequence[str] | None): which parts to load. None means all that the
            file says it holds (a stage-1 file holds the connector only), or every
            part of the model when the file says nothing.
        strict (bool): refuse any missing, unexpected or mismatched key in those
            parts. Without it they are logged, and mismatched tensors are left. LoRA
            that a part of the file does not have begins anew either way.
        allow_pickle (bool): see :func:`load_file`.
        rename (dict[str, str] | None): module names of the file to those of the
            model, before ``parts`` choose: ``{"vision_encoder":
            "vision_encoder.encoder"}`` puts a tower into a wrapper around it.
        grow (bool): the file is of an earlier, smaller stage: parts that have a
            method ``grown`` say what the new ones among their weights begin as.

    Raises:
        ValueError: with the three lists, when ``strict`` and they are not empty;
            always when an expected part got nothing, ``rename`` fits nothing, or
            :func:`check_token_ids` finds other ids.
    """
    if isinstance(path, dict):
        content, path = path, path.get("path", "<checkpoint>")
    else:
        content = load_file(path, allow_pickle=allow_pickle)
    state, meta = dict(_strip_prefix(content["state_dict"])), content.get("meta", {})
    if rename:
        state, meta = _renamed(state, meta, dict(rename), str(path))
    model = unwrap(model)
    own = model.state_dict()
    omitted = set(meta.get("omitted", ()))
    if parts is None:
        wanted = set(meta["parts"]) if omitted else set(map(part_of, own))
        chosen = wanted | set(map(part_of, state))
    else:
        wanted = chosen = set(parts)
    if not omitted:
        _complete(model, state, chosen, str(path))
    if grow:
        state = _grown(model, state, wanted, omitted)
    report = LoadReport(str(path))
    found = {key for key in state if part_of(key) in chosen}
    expected = {key for key in own if part_of(key) in chosen}
    report.skipped = dict(Counter(map(part_of, state.keys() - found)))
    report.missing = _by_part(expected - found - omitted - _fresh_lora(own, found))
    report.kept = dict(Counter(map(part_of, sorted(omitted & own.keys() - found))))
    report.unexpected = _by_part(found - expected)
    fitting, bad = _fitting(state, own, found & expected)
    report.mismatched = _by_part(bad)
    report.loaded = dict(Counter(map(part_of, sorted(fitting))))

    empty = sorted(part for part in wanted if not report.loaded.get(part))
    if empty:
        raise ValueError(
            f"checkpoint '{path}' gives nothing for {empty}; it holds "
            f"{sorted(set(map(part_of, state)))}, the model has "
            f"{sorted(set(map(part_of, own)))}.\n{report}"
        )
    if strict and not report.is_clean:
        raise ValueError(
            f"checkpoint does not fit the model (strict): {report}{_lora_hint(report)}"
        )
    _accept(model, report)
    model.load_state_dict(fitting, strict=False)
    if omitted:
        _compare_frozen(model, meta, str(path))
    return report


def _accept(model: nn.Module, report: LoadReport) -> None:
    """Compare the ids of a language model's tokens with the run's; log the report."""
    processor = getattr(model, "processor", None)
    if processor is not None and "language_model" in report.loaded:
        from .token_ids import check_token_ids

        check_token_ids(processor.tokenizer, report.path)
    level = logging.INFO if report.is_clean else logging.WARNING
    print_log(str(report), "current", level)


def _complete(model: nn.Module, state: dict, parts: set, path: str) -> None:
    """Let modules start what a checkpoint was made without (adapters, new rows)."""
    for name, module in model.named_modules():
        is_chosen = part_of(f"{name}.") in parts
        complete = getattr(module, "complete_state", None) if is_chosen else None
        added = complete(state, f"{name}.") if complete else None
        if added:
            print_log(
                f"'{path}' was made without {added} of {name}: they start anew.",
                "current",
                logging.INFO,
            )


def _fresh_lora(own: Iterable[str], found: set[str]) -> set[str]:
    """Return the LoRA weights of parts that a file holds without any: they are new."""
    known = {part_of(key) for key in found if is_lora_parameter(key)}
    parts = {part_of(key) for key in found} - known
    fresh = {key for key in own if is_lora_parameter(key) and part_of(key) in parts}
    if fresh:
        names = sorted(set(map(part_of, fresh)))
        print_log(f"LoRA of {names} is not in the file: it starts anew.", "current")
    return fresh


def _lora_hint(report: LoadReport) -> str:
    """Return the way to load weights with adapters into a model without."""
    parts = [
        p for p, keys in report.unexpected.items() if any(map(is_lora_parameter, keys))
    ]
    if not parts:
        return ""
    return (
        f"\n  The file holds LoRA of {parts}: give model.{parts[0]} the same lora, or "
        "merge it first (tools/model_converters/merge_lora.py)."
    )


def _fitting(state: dict, own: dict, keys: set[str]) -> tuple[dict, list[str]]:
    """Return the tensors whose shapes fit, and what to say of the others."""
    fitting, bad = {}, []
    for key in sorted(keys):
        if state[key].shape == own[key].shape:
            fitting[key] = state[key]
        else:
            shapes = f"{tuple(state[key].shape)} in the file"
            bad.append(f"{key} ({shapes}, {tuple(own[key].shape)} in the model)")
    return fitting, bad


def _grown(model: nn.Module, state: dict, parts: set, omitted: set) -> dict:
    """Let the parts make their own state from that of an earlier stage."""
    children = {name: module for name, module in model.named_children()}
    growing = [n for n in sorted(parts) if hasattr(children.get(n), "grown")]
    if not growing:
        raise ValueError(f"load_from.grow=True: none of {sorted(parts)} can grow.")
    for name in growing:
        start = f"{name}."
        old = {k.removeprefix(start): v for k, v in state.items() if part_of(k) == name}
        known = {k.removeprefix(start) for k in omitted if part_of(k) == name}
        new = children[name].grown(old)
        state = {k: v for k, v in state.items() if part_of(k) != name}
        state |= {start + key: value for key, value in new.items() if key not in known}
        print_log(
            f"{name}: {len(old)} tensors of an earlier stage grown to {len(new)}.",
            "current",
        )
    return state


def _strip_prefix(state: dict) -> dict:
    """Take ``module.`` off, which data-parallel wrappers put in front."""
    if state and all(key.startswith("module.") for key in state):
        return {key[len("module.") :]: value for key, value in state.items()}
    return state


def _renamed(state: dict, meta: dict, rename: dict, path: str) -> tuple[dict, dict]:
    """Give state and meta of a file the module names of the model."""

    def new(key: str) -> str:
        fitting = [old for old in rename if f"{key}.".startswith(f"{old}.")]
        old = max(fitting, key=len, default=None)
        return key if old is None else rename[old] + key[len(old) :]

    useless = [old for old in rename if not any(k.startswith(f"{old}.") for k in state)]
    if useless:
        raise ValueError(
            f"load_from.rename={rename}: '{path}' has no weights below {useless}; it "
            f"holds {sorted(set(map(part_of, state)))}."
        )
    names = {key: new(key) for key in state}
    if len(set(names.values())) != len(names):
        raise ValueError(f"load_from.rename={rename}: two weights of '{path}' collide.")
    omitted = [new(key) for key in meta.get("omitted", ())]
    state = {names[key]: value for key, value in state.items()}
    # A fingerprint holds names, so that of a renamed part says nothing here.
    touched = {part_of(name) for pair in rename.items() for name in pair}
    frozen = {k: v for k, v in meta.get("frozen", {}).items() if k not in touched}
    parts = list(dict.fromkeys(part_of(f"{new(p)}.") for p in meta.get("parts", ())))
    return state, {**meta, "omitted": omitted, "frozen": frozen, "parts": parts}


# Frozen parts that a trainable-only file leaves out ----------------------------


def omitted_keys(model: nn.Module) -> set[str]:
    """Return the state-dict keys that a trainable-only checkpoint leaves out.

    These are frozen parameters under whatever key the model saves them (LoRA's base
    layers, the originals of copies that are trained, packed weights with their
    scales), and the buffers of parts that train nothing.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    trained_parts = {part_of(name) for name, p in named.items() if p.requires_grad}
    trained = {id(param): param.requires_grad for param in named.values()}
    # By identity: hooks of a module may save a tensor under another name.
    state = model.state_dict(keep_vars=True)
    join_tables(model, state)
    params = {key: trained[id(v)] for key, v in state.items() if id(v) in trained}
    omitted = set()
    for key in state:
        owner = key
        while owner and owner not in params:  # of a packed weight's scales: the weight
            owner = owner.rpartition(".")[0]
        keep = params[owner] if owner else part_of(key) in trained_parts
        if not keep:
            omitted.add(key)
    return omitted


def fingerprint(state: dict[str, torch.Tensor]) -> dict[str, str]:
    """Return a hash per part over names, shapes and a few values of its tensors.

    Values are rounded to bfloat16, so that a tower kept in half precision has the
    hash of its float32 original.
    """
    hashes: dict[str, Any] = defaultdict(hashlib.sha256)
    for key in sorted(state):
        value = state[key]
        digest = hashes[part_of(key)]
        digest.update(f"{key}{tuple(value.shape)}".encode())
        if value.numel() and value.device.type != "meta":
            flat = value.detach().reshape(-1)
            last = flat.numel() - 1
            # float32 rounds places beyond 2 ** 24, the last one perhaps upwards.
            picks = torch.linspace(0, last, min(8, flat.numel())).long()
            sample = flat[picks.clamp_(max=last).to(flat.device)].to(
                "cpu", torch.bfloat16
            )
            digest.update(sample.view(torch.int16).numpy().tobytes())
    return {part: digest.hexdigest()[:16] for part, digest in hashes.items()}


def frozen_differences(model: nn.Module, meta: dict) -> list[str]:
    """Return the parts whose omitted tensors are not those of the saved run."""
    own = unwrap(model).state_dict()
    now = fingerprint({key: own[key] for key in meta.get("omitted", ()) if key in own})
    then = meta.get("frozen", {})
    return sorted(part for part in then if now.get(part) != then[part])


def _compare_frozen(model: nn.Module, meta: dict, path: str) -> None:
    differing = frozen_differences(model, meta)
    if differing:
        print_log(
            f"'{path}' leaves out frozen parts, and {differing} of this model are not "
            "those that it was trained with. Load them from the same sources first.",
            "current",
            logging.WARNING,
        )


# Where the newest checkpoint is -------------------------------------------------


def write_last(folder: str | os.PathLike, name: str) -> None:
    """Note the newest checkpoint of a folder in its file ``last_checkpoint``."""
    write_atomic(Path(folder) / "last_checkpoint", name)


def plain(value: Any) -> Any:
    """Return a value with everything that is not plain turned into text."""
    return json.loads(json.dumps(value, default=str))
