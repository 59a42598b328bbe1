"""What the answers of a run depend on: a restart must agree with it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmvlm.datasets.index.fingerprint import (
    NoFingerprint,
    fingerprint,
    tokenizer_digest,
)
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.utils.files import write_atomic

from ..runner.identity import data_facts, leaves
from ..runner.resume import identity_changes

IDENTITY = "identity.json"


class OtherIdentity(ValueError):
    """A folder holds answers of another model, data or decoding."""


def weights_digest(model: nn.Module) -> str:
    """Return a hash of all weights and buffers, wherever they were read from."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content = value.detach().cpu().contiguous().reshape(-1)
        digest.update(np.asarray(content.view(torch.uint8)).data)
    return digest.hexdigest()[:24]


def model_facts(cfg: Any, model: nn.Module, processor: Any) -> dict[str, Any]:
    """Return what answers depend on, whatever the benchmark, by dotted path.

    Args:
        cfg (mmengine.Config): of the model.
        model (nn.Module): with its weights.
        processor (VLMProcessor): bound to it.
    """
    facts = dict(weights=weights_digest(model), dtype=_dtypes(model))
    facts |= dict(leaves(cfg.get("model"), "model"))
    facts["tokenizer"] = _digest(tokenizer_digest, processor.tokenizer)
    facts["template"] = _digest(fingerprint, processor.template)
    steps = processor.pipeline("generate").transforms
    for number, step in enumerate(steps):
        options = {k: v for k, v in vars(step).items() if _is_option(k)}
        name = f"pipeline.{number}.{type(step).__name__}"
        facts[name] = _digest(fingerprint, [type(step), options])
    return facts


def _is_option(name: str) -> bool:
    """Whether an attribute is none that binding to model or tokenizer sets."""
    return not name.startswith("_") and name not in ("context", "processor")


def _dtypes(model: nn.Module) -> str:
    return " ".join(sorted({str(p.dtype) for p in model.parameters()}))


def _digest(function: Any, value: Any) -> str:
    """Return a short hash of what a thing is, its class where it has no contents."""
    try:
        found = json.dumps(function(value), sort_keys=True)
    except NoFingerprint:
        return type(value).__name__
    return hashlib.sha256(found.encode()).hexdigest()[:16]


def benchmark_facts(
    benchmark: Benchmark, dataset: Any, gen: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Return what the answers to one benchmark depend on besides the model.

    Args:
        benchmark (Benchmark): its reader's options count, where its files lie does not.
        dataset (Dataset): its reader.
        gen (dict): decoding settings.
        **options: of the run: ``limit``, ``only``, ``blind``, ``answers``.
    """
    own = {key: value for key, value in benchmark.dataset.items() if key != "data_root"}
    facts = dict(leaves(own, "dataset")) | data_facts(dataset)
    facts |= {f"generation.{key}": value for key, value in gen.items()}
    return facts | {key: value for key, value in options.items() if value}


def check_identity(folder: str | os.PathLike, facts: dict[str, Any]) -> None:
    """Write down what answers depend on, or compare with what was written.

    Args:
        folder (str | PathLike): of a benchmark.
        facts (dict): by dotted path, plain values.

    Raises:
        OtherIdentity: naming what differs.
    """
    path = Path(folder, IDENTITY)
    facts = json.loads(json.dumps(facts, default=str))
    if not path.is_file():
        write_atomic(path, json.dumps(facts, indent=1, sort_keys=True) + "\n")
        return
    changes = identity_changes(json.loads(path.read_text(encoding="utf-8")), facts)
    if changes:
        texts = "; ".join(f"{key}: {text}" for key, text in sorted(changes.items()))
        raise OtherIdentity(
            f"'{folder}' holds answers of another run: {texts}. Name another --out, or "
            "drop those answers with --fresh."
        )
