"""The parts of a model, as the annotations of its class's constructor name them."""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from .signatures import accepted_keywords


def module_class(annotation: Any) -> tuple[type | None, bool]:
    """Return the kind of module that an annotation names.

    Returns:
        tuple: the class, None if any module or none will do; whether the value holds
        several, by name.
    """
    import torch

    if isinstance(annotation, type):
        own = issubclass(annotation, torch.nn.Module) and annotation.__module__
        return (
            (annotation, False) if own and own.startswith("mmvlm.") else (None, False)
        )
    origin = typing.get_origin(annotation)
    by_name = isinstance(origin, type) and issubclass(origin, Mapping)
    for inner in typing.get_args(annotation):
        base, several = module_class(inner)
        if base is not None:
            return base, several or by_name
    return None, False


@functools.cache
def part_fields(kind: Any) -> dict[str, tuple[type, bool]]:
    """Return the keywords of a class that take modules of a kind.

    Returns:
        dict: keyword to its class, and whether it takes several by name.
    """
    found = {k: module_class(a) for k, a in accepted_keywords(kind).names.items()}
    return {key: one for key, one in found.items() if one[0] is not None}


def holds_parts(value: Any) -> bool:
    """Whether a value of ``model`` holds parts by name, as ``encoders`` does."""
    return (
        isinstance(value, Mapping)
        and "type" not in value
        and any(isinstance(one, Mapping) and "type" in one for one in value.values())
    )


class PartConfig(NamedTuple):
    """One part of ``model`` in a config.

    Args:
        path (str): below ``model``: ``connector``, ``heads.mask``.
        config (Any): its dict, or a built module.
        base (type): the class that it must have.
    """

    path: str
    config: Any
    base: type


def part_configs(model: Any) -> dict[str, PartConfig]:
    """Return the parts of ``model`` in a config by their names."""
    from mmvlm.registry import MODELS

    from .positions import UnknownName, resolve

    kind = model.get("type") if isinstance(model, dict) else None
    if isinstance(kind, str):
        try:
            kind = resolve(MODELS, kind)
        except UnknownName:
            kind = None
    found = {}
    fields = part_fields(kind) if kind else {}
    for key, value in model.items() if fields else ():
        base, several = fields.get(key, (None, False))
        if base is None:
            continue
        if several and isinstance(value, Mapping):
            for name, one in value.items():
                found[name] = PartConfig(f"{key}.{name}", one, base)
        elif value is not None:
            found[key] = PartConfig(key, value, base)
    return found


def part_kinds() -> dict[str, type]:
    """Return the kinds of parts by name: of their class, or of a keyword for them."""
    from mmvlm.registry import MODELS

    kinds: dict[str, type] = {}
    for kind in MODELS.module_dict.values():
        for key, (base, several) in part_fields(kind).items():
            kinds[kind_name(base)] = base
            if not several:
                kinds.setdefault(key, base)
    return kinds


def kind_name(base: type) -> str:
    """Return how a kind is written: ``VisionEncoder`` is ``vision_encoder``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", base.__name__).lower()
