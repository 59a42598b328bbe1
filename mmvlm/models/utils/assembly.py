"""From configs of parts to modules that fit each other."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from mmvlm.models.connectors.base import Connector
from mmvlm.models.heads.base import Head
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec

from .feed import parse_source

#: Keys of a part's config that say where it stands between others; they are set on the
#: module in place of its class's own.
WIRING = ("reads", "source", "fills")

Encoders = Mapping[str, VisionEncoder]


def build_part(part: Any, **neighbours: Any) -> Any:
    """Build a part from its config; a module is returned as it is.

    Args:
        part (dict | torch.nn.Module): config, which may hold ``WIRING``, or module.
        **neighbours: what the model knows; a constructor gets what it takes of it.
    """
    if not isinstance(part, dict):
        return part
    config = dict(part)
    wiring = {key: config.pop(key) for key in WIRING if key in config}
    taken = _parameters(config["type"])
    known = {k: v for k, v in neighbours.items() if k in taken and k not in config}
    built = MODELS.build({**config, **known})
    for key, value in wiring.items():
        if not hasattr(built, key):
            raise ValueError(f"{config['type']} has no '{key}' to set.")
        setattr(built, key, value if isinstance(value, str) else tuple(value))
    return built


def _class_of(kind: Any) -> type:
    return MODELS.get(kind) if isinstance(kind, str) else kind


def _parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """Return what a class's constructor takes, also through ``**kwargs``."""
    names: dict[str, inspect.Parameter] = {}
    for cls in _class_of(kind).__mro__:
        if "__init__" not in vars(cls):
            continue
        found = inspect.signature(cls.__init__).parameters
        names = {**found, **names}
        if not any(p.kind is p.VAR_KEYWORD for p in found.values()):
            break
    return names


def encoder_of(encoders: Encoders, name: str) -> str:
    """Return the encoder that a source means: by its own name or by what it reads.

    Raises:
        ValueError: when no encoder, or more than one, reads such inputs.
    """
    if name in encoders:
        return name
    found = [key for key, encoder in encoders.items() if name in encoder.reads]
    if len(found) != 1:
        what = {key: list(encoder.reads) for key, encoder in encoders.items()}
        raise ValueError(
            f"a part reads features of '{name}', which "
            f"{'no encoder reads' if not found else f'{found} read: name one'}; "
            f"encoders and what they read: {what}."
        )
    return found[0]


def build_connectors(
    parts: Mapping[str, Any], encoders: Encoders, out_width: int
) -> dict[str, Connector]:
    """Build connectors; each gets the spec of the encoder whose features it reads.

    One that reads several takes ``specs``, by kind of input and by encoder.

    Raises:
        ValueError: when widths, kinds or sources do not fit.
    """
    built: dict[str, Connector] = {}
    for name, part in parts.items():
        source = "image"
        if isinstance(part, dict):
            source = part.get("source", _class_of(part["type"]).source)
        known: dict[str, Any] = dict(out_width=out_width, specs=specs_of(encoders))
        if isinstance(part, dict) and source is not None and encoders:
            known["vision_spec"] = encoders[encoder_of(encoders, source)].spec
        elif isinstance(part, dict) and source is not None:
            raise ValueError(
                f"{name} ({part['type']}) reads features of '{source}', but the model "
                "has no encoder: give both model.vision_encoder and model.connector."
            )
        connector = built[name] = build_part(part, **known)
        if connector.out_width != out_width:
            raise ValueError(
                f"{name} gives width {connector.out_width}, the language model takes "
                f"{out_width}."
            )
        check_sources(name, connector.reads, encoders)
    kinds = [kind for connector in built.values() for kind in connector.fills]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise ValueError(
            f"several connectors fill the slots of {twice}: "
            f"{ {name: list(c.fills) for name, c in built.items()} }; set 'fills'."
        )
    return built


def build_heads(
    parts: Mapping[str, Any], encoders: Encoders, in_width: int
) -> dict[str, Head]:
    """Build heads; each gets the width of the states and the specs of what it reads.

    Raises:
        ValueError: when sources do not fit, or two heads name a loss alike.
    """
    specs = specs_of(encoders)
    built: dict[str, Head] = {}
    for name, part in parts.items():
        head = built[name] = build_part(part, in_width=in_width, specs=specs)
        head.name = name
        check_sources(name, head.reads, encoders)
    terms = ["text", *(term for head in built.values() for term in head.terms)]
    twice = sorted({term for term in terms if terms.count(term) > 1})
    if twice:
        raise ValueError(f"model.heads: several losses are named {twice}.")
    return built


def specs_of(encoders: Encoders) -> dict[str, VisionEncoderSpec]:
    """Return the facts of encoders by what they read and by their names."""
    specs = {kind: e.spec for e in encoders.values() for kind in e.reads}
    return {**specs, **{name: encoder.spec for name, encoder in encoders.items()}}


def check_sources(name: str, reads: Iterable[str], encoders: Encoders) -> None:
    """Check that what a part reads is given by one encoder, layer by layer.

    Raises:
        ValueError: naming the part.
    """
    for source in reads:
        kind, layer = parse_source(source)
        if layer is None:
            continue
        try:
            encoder = encoders[encoder_of(encoders, kind)]
            if layer != "*":
                encoder.spec.layer_index(layer)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def build_preprocessor(part: Any, encoders: Encoders) -> Any:
    """Build the preprocessor with every encoder's normalisation."""
    part = dict(type="VLMDataPreprocessor") if part is None else part
    if not isinstance(part, dict):
        return part
    specs = {kind: e.spec for e in reversed(encoders.values()) for kind in e.reads}
    first = next(iter(encoders.values()), None)
    known: dict[str, Any] = {}
    if first is not None:
        known = dict(mean=first.spec.mean, std=first.spec.std)
        other = {
            kind: (spec.mean, spec.std)
            for kind, spec in specs.items()
            if (spec.mean, spec.std) != (first.spec.mean, first.spec.std)
        }
        if other:
            known["by_kind"] = other
    return MODELS.build({**known, **part})


def check_read(encoders: Encoders, readers: Sequence[Any]) -> None:
    """Check that all that an encoder takes is read by some part.

    Raises:
        ValueError: naming the encoder and what nobody reads.
    """
    reads = [source for part in readers for source in part.reads]
    names = {parse_source(source)[0] for source in reads if ":" in source}
    for name, encoder in encoders.items():
        lost = [] if name in names else sorted(set(encoder.reads) - names)
        if lost:
            raise ValueError(
                f"model.{name} takes {lost}, but no connector or head reads features "
                f"of them; they read {sorted(names)}."
            )


def untouched(part: torch.nn.Module) -> torch.Tensor | int:
    """Return 0, attached to every trained weight of a part.

    Raises:
        ValueError: for shards of ZeRO-3, which only a run gathers.
    """
    weights = [w for w in part.parameters() if w.requires_grad]
    if any(getattr(w, "ds_numel", w.numel()) != w.numel() for w in weights):
        raise ValueError(
            f"a batch that does not run all of {type(part).__name__} keeps ranks that "
            "do waiting under ZeRO-3. Take configs/_base_/strategies/fsdp.py."
        )
    return sum((w.sum() * 0 for w in weights), 0)
