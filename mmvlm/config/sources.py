"""Where the weights of every part of a model come from before it is trained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .parts import part_configs
from .signatures import accepted_keywords

#: Keywords of components that name weights.
_KEYS = ("name_or_path", "pretrained", "checkpoint", "checkpoint_path")
_ANNOUNCE = "say random_init=True at that part if it is meant to start anew"


@dataclass(frozen=True)
class WeightSource:
    """Where one component has its weights from.

    Args:
        path (str): below ``model``, such as ``vision_encoder.encoder``.
        source (str): what names the weights, or ``random``.
        is_random (bool): nothing names any.
        announced (bool): ``random_init=True`` says so.
        frozen (bool): nothing trains its weights.
        tower (bool): an encoder or language model, which no recipe starts anew
            without saying so.
    """

    path: str
    source: str
    is_random: bool
    announced: bool
    frozen: bool
    tower: bool

    def __str__(self) -> str:
        said = " (random_init=True)" if self.is_random and self.announced else ""
        new = self.is_random and not said and not self.tower and not self.frozen
        return f"{self.path}: {self.source}{said or (' (new)' if new else '')}"


def weight_sources(cfg: Any) -> list[WeightSource]:
    """Return the source of every component with weights below ``cfg.model``."""
    model = cfg.get("model")
    if not isinstance(model, dict):
        return []
    rules = dict(model.get("train_parts") or {})
    entries = load_entries(cfg.get("load_from"))
    found = []
    parts = part_configs(model)
    configs = {name: one.config for name, one in parts.items()}
    components = list(_components(configs, "", bool(model.get("random_init"))))
    for path, config, kind, announced in components:
        part = path.partition(".")[0]
        source = _own_source(config) or _loaded_source(path, entries)
        # Around another encoder there are only its additions.
        wraps = any(other.startswith(f"{path}.") and _is_tower(k)
                    for other, _, k, _ in components)  # fmt: skip
        found.append(
            WeightSource(
                path=path,
                source=source or "random",
                is_random=source is None,
                announced=announced,
                frozen=_is_frozen(rules.get(part, _default_rule(configs[part]))),
                tower=_is_tower(kind) and not wraps,
            )
        )
    return found


def random_parts(cfg: Any, model: Any) -> list[str]:
    """Return the components of a built model whose weights nothing names.

    Args:
        cfg (mmengine.Config): with ``model`` and ``load_from``.
        model (torch.nn.Module): built from it.
    """
    sources = weight_sources(cfg)
    return [
        one.path
        for one in sources
        if one.is_random and _has_weights(one, sources, model)
    ]


def weight_problems(
    cfg: Any, model: Any = None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (path, message) of random weights that must not be, and of suspects.

    A frozen part, an encoder and a language model need a source. A connector, an
    adapter or a head may be new where it is trained, unless ``load_from`` takes
    another of them from an earlier stage and lets it out (a stage that grows may add
    some).

    Args:
        cfg (mmengine.Config): of a training; others have their weights from the
            checkpoint that they test.
        model (torch.nn.Module | None): built from it; tells which components have
            weights of their own.
    """
    problems: list[tuple[str, str]] = []
    suspects: list[tuple[str, str]] = []
    if not cfg.get("train_cfg"):
        return problems, suspects
    sources = weight_sources(cfg)
    entries = load_entries(cfg.get("load_from"))
    parts = part_configs(cfg["model"])
    # Weights of towers do not show that a connector was trained before.
    towers = {name for name, one in parts.items() if _is_tower(one.base)}
    outer = [s for s in sources if s.path.partition(".")[0] not in towers]
    later = any(s.source.startswith("load_from") for s in outer)
    later = later and not any(entry.get("grow") for entry in entries)
    rules = cfg["model"].get("train_parts") or {}
    whole_text = "language_model" in cfg["model"]
    whole_text = whole_text and rules.get("language_model", True) is True
    for one in sources:
        if not one.is_random or one.announced or not _has_weights(one, sources, model):
            continue
        name, _, inner = one.path.partition(".")
        path = ".".join(["model", parts[name].path, *([inner] if inner else [])])
        if one.frozen or one.tower:
            state = "frozen" if one.frozen else "an encoder or language model"
            problems.append(
                (
                    path,
                    f"its weights are random ({state}): no name_or_path, pretrained or "
                    f"load_from gives them. Name a source, or {_ANNOUNCE}.",
                )
            )
        elif later and ".adapters." not in path:  # those have a start_state
            problems.append(
                (
                    path,
                    f"load_from leaves its weights random. Add it to parts, or "
                    f"{_ANNOUNCE}.",
                )
            )
        elif whole_text and not entries and one in outer:
            suspects.append(
                (
                    path,
                    "it starts from random weights while the language model is "
                    f"trained. Load it from an earlier stage, or {_ANNOUNCE}.",
                )
            )
    problems += _omitted(cfg) + _new_rows(cfg, sources)
    return problems, suspects


def _has_weights(one: WeightSource, sources: list, model: Any) -> bool:
    """Whether a component has weights besides those of the components in it."""
    inside = [s.path for s in sources if s.path.startswith(f"{one.path}.")]
    if not inside:
        return True
    if model is None:
        return not one.frozen
    try:
        module = model.get_submodule(one.path)
        for path in inside:
            model.get_submodule(path)
    except AttributeError:
        return False  # attributes have other names than keywords
    inner = {id(p) for path in inside for p in model.get_submodule(path).parameters()}
    return any(id(p) not in inner for p in module.parameters())


def load_entries(load_from: Any) -> list[dict]:
    """Return ``load_from`` as a list of dicts with ``path``."""
    if not load_from:
        return []
    entries = load_from if isinstance(load_from, list | tuple) else [load_from]
    return [dict(path=e) if isinstance(e, str) else dict(e) for e in entries]


def _components(
    value: Any, path: str, announced: bool
) -> Iterator[tuple[str, dict, type, bool]]:
    """Yield path, config and class of the modules below a model."""
    import torch

    from mmvlm.registry import MODELS

    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        below = f"{path}.{key}" if path else str(key)
        if isinstance(item, dict) and "type" in item:
            kind = item["type"]
            kind = MODELS.get(kind) if isinstance(kind, str) else kind
            said = announced or bool(item.get("random_init"))
            module = isinstance(kind, type) and issubclass(kind, torch.nn.Module)
            if module and key != "data_preprocessor":
                yield below, item, kind, said
            yield from _components(item, below, said)
        elif isinstance(item, dict | list | tuple) and key != "config":
            yield from _components(item, below, announced)


def _is_tower(kind: type) -> bool:
    from mmvlm.models.language_models.base import LanguageModel
    from mmvlm.models.vision_encoders.base import VisionEncoder

    # A second tower inside an encoder may be any module that weights can be named of.
    named = "checkpoint_path" in accepted_keywords(kind).names
    return named or issubclass(kind, (VisionEncoder, LanguageModel))


def _own_source(config: dict) -> str | None:
    """Return the keyword by which a component names its weights."""
    for key, value in config.items():
        if key in _KEYS and value:
            return f"{key} {value!r}"
        if key == "init_cfg" or (isinstance(value, dict) and "type" not in value):
            inner = [value] if isinstance(value, dict) else value or ()
            for one in inner:
                found = {k: v for k, v in one.items() if k in _KEYS and v}
                if found and key not in ("config", "load_from"):
                    return f"{key}.{next(iter(found))} {next(iter(found.values()))!r}"
    return None


def _loaded_source(path: str, entries: list[dict]) -> str | None:
    """Return the last entry of ``load_from`` that gives a component its weights."""
    part = path.partition(".")[0]
    for entry in reversed(entries):
        parts = entry.get("parts")
        if parts is not None and part not in parts:
            continue
        if parts is None and part in _left_out(entry.get("path")):
            continue
        places = [new for new in (entry.get("rename") or {}).values()]
        places = [new for new in places if new.partition(".")[0] == part]
        if places and not any(f"{path}.".startswith(f"{new}.") for new in places):
            continue
        return f"load_from {entry.get('path')!r}"
    return None


def _left_out(path: Any) -> set[str]:
    """Return the parts that the checkpoints of a shipped config's run leave out.

    Known for a work dir that is named after the config.
    """
    from mmengine.config import Config

    from .find import find_config

    if not isinstance(path, str) or path.endswith((".pth", ".safetensors", ".bin")):
        return set()
    try:
        cfg = Config.fromfile(find_config(f"{os.path.basename(path.rstrip('/'))}.py"))
    except (FileNotFoundError, ValueError):
        return set()
    hooks = cfg.get("default_hooks") or {}
    if not (hooks.get("checkpoint") or {}).get("trainable_only"):
        return set()
    rules = cfg.model.get("train_parts") or {}
    return {part for part, rule in rules.items() if rule is False}


def _omitted(cfg: Any) -> list[tuple[str, str]]:
    """Return entries that ask for parts that their checkpoint does not hold."""
    problems = []
    for number, entry in enumerate(load_entries(cfg.get("load_from"))):
        missing = sorted(set(entry.get("parts") or ()) & _left_out(entry.get("path")))
        if missing and not entry.get("rename"):
            single = not isinstance(cfg["load_from"], list | tuple)
            problems.append(
                (
                    "load_from" if single else f"load_from.{number}",
                    f"parts names {missing}, but checkpoints of that run leave frozen "
                    "parts out (trainable_only=True). Load them from where that run "
                    "had them.",
                )
            )
    return problems


def _default_rule(part: Any) -> Any:
    return "lora" if isinstance(part, dict) and part.get("lora") else True


def _is_frozen(rule: Any) -> bool:
    """Whether a rule leaves the weights that a part was pretrained with alone."""
    return rule is False


def _new_rows(cfg: Any, sources: list[WeightSource]) -> list[tuple[str, str]]:
    """Return the problem of new embedding rows that stay what they began as."""
    text = cfg["model"].get("language_model")
    if not isinstance(text, dict):
        return []
    new, number = text.get("new_tokens") or {}, text.get("num_new_tokens")
    if not number and (not new or new.get("train", "rows") is not None):
        return []
    rules = cfg["model"].get("train_parts") or {}
    rule = rules.get("language_model", _default_rule(text))
    loaded = any(
        s.path == "language_model" and s.source.startswith("load_from") for s in sources
    ) or _loaded_source("language_model", load_entries(cfg.get("load_from")))
    anew = cfg["model"].get("random_init")  # --tiny has dropped what it loads
    if rule is False or loaded or anew or _trains_tables(rule):
        return []
    path = "model.language_model.new_tokens"
    return [
        (
            "model.language_model.num_new_tokens" if number else path,
            f"train_parts.language_model={rule!r} trains none of the new rows, which "
            f"would stay what they begin as. Set {path}=dict(tokens=[...], "
            "train='rows'), or load rows that were trained.",
        )
    ]


def _trains_tables(rule: Any) -> bool:
    words = {"embed_tokens", "new_rows", "wte", "tok_embeddings", "model"}
    if isinstance(rule, dict) and "only" in rule:
        names = [rule["only"]] if isinstance(rule["only"], str) else rule["only"]
        return any(words & set(name.split(".")) for name in names)
    if isinstance(rule, dict) and "frozen" in rule:
        names = [rule["frozen"]] if isinstance(rule["frozen"], str) else rule["frozen"]
        return not any(words & set(name.split(".")) for name in names)
    return rule is True or (isinstance(rule, dict) and rule.get("from_block") == -1)
