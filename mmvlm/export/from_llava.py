"""Checkpoints of the official LLaVA code into ours.

Three kinds: a whole model, the projector of stage 1 (``mm_projector.bin``; with
INF-LLaVA's ``spatial_embed`` or Mini-Gemini's ``vlm_uni`` and towers beside it), and
LoRA adapters with ``non_lora_trainables.bin``. Each may be of MMFuser, which has its
fuser in front of LLaVA's projector; a whole model may be LLaVA-HR.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from mmvlm.export.importing import (
    EMBED,
    Imported,
    fit_to_model,
    meta_state,
    plain_model_cfg,
)
from mmvlm.export.keys import (
    CAUSAL_LM,
    LLAVA,
    OURS,
    PARTS,
    detect_layout,
    from_canonical,
    official_layout,
    to_canonical,
)
from mmvlm.export.llava_config import check_llava_config
from mmvlm.export.state import read_file, read_json, read_state

#: Modules that stage 1 saves, whatever stands before their names in its file.
_STAGE_1 = (
    *("mm_projector.", "spatial_embed.", "vlm_uni_"),
    *("vision_tower.vision_tower.", "vision_tower_aux."),
)
PROJECTOR, EXTRA = "mm_projector.bin", "non_lora_trainables.bin"
#: The classifier of LLaVA-HR's ConvNeXt, which nothing uses.
_UNUSED = "model.vision_tower.slow_vision_tower.vision_tower.head."
_TOWER = "model.vision_tower.vision_tower."
NEWLINE = "connector.image_newline"
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
#: Adapter settings whose merge is more than W + scale * B A.
_UNUSUAL = ("use_dora", "use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern")


def import_llava(
    path: str | Path,
    model_cfg: Mapping[str, Any],
    *,
    base: str | Path | None = None,
    vocab_size: int | None = None,
    vision_tower: str | Path | None = None,
    view: Mapping[str, Any] | None = None,
    max_length: int | None = None,
) -> Imported:
    """Read an official LLaVA checkpoint.

    A ``config.json`` beside the weights must say what ``model_cfg`` says, see
    :func:`mmvlm.export.llava_config.check_llava_config`.

    Args:
        path (str | Path): ``mm_projector.bin`` or a folder of any of the three
            kinds.
        model_cfg (Mapping): our ``model`` config that the weights must fit; the
            official files do not describe the vision tower.
        base (str | Path | None): for LoRA: folder of the language model that
            the adapters were trained on; they are then merged. None keeps them
            as adapters, and ``model_cfg`` must have the same ``lora``.
        vocab_size (int | None): cut embedding and head to that many rows; None
            cuts to ``model.language_model.config.vocab_size``.
        vision_tower (str | Path | None): folder with the tower of a whole model
            that was saved without it, as DenseFusion does; None takes the
            folder ``vision_tower`` inside ``path`` where there is one.
        view (Mapping | None): our view transform, which must be the official one.
        max_length (int | None): tokens of a training sample; a warning tells of
            another official one.

    Raises:
        FileNotFoundError: when ``path`` holds no such checkpoint.
        ValueError: missing and unexpected keys (listed), shapes or adapter
            settings that differ; a ``vision_tower`` that is not wanted.
    """
    path = Path(path)
    if vision_tower is not None and (
        not path.is_dir() or (path / "adapter_config.json").is_file()
    ):
        raise ValueError(
            f"{path}: vision_tower='{vision_tower}' belongs to a whole model."
        )
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such LLaVA checkpoint.")
    imported = _import(path, model_cfg, base, vocab_size, vision_tower)
    config = (path.parent if path.is_file() else path) / "config.json"
    if config.is_file():
        official = read_json(config)
        has_tower = "vision_encoder" in imported.parts
        check_llava_config(
            official,
            model_cfg,
            view,
            source=str(config),
            has_tower=has_tower,
            max_length=max_length,
        )
        imported.meta["official_config"] = official
    else:
        print_log(
            f"{config}: not there, so nothing says which layers and which view of a "
            "image these weights belong to; the config is taken at its word.",
            logger="current",
            level=30,
        )
    return imported


def _import(
    path: Path,
    model_cfg: Mapping[str, Any],
    base: str | Path | None,
    vocab_size: int | None,
    vision_tower: str | Path | None,
) -> Imported:
    """Read one of the three kinds."""
    if path.is_file():
        return _projector(path, model_cfg)
    if (path / "adapter_config.json").is_file():
        return _lora(path, model_cfg, base, vocab_size)
    only_projector = not any(path.glob("*.index.json")) and not any(
        (path / name).is_file() for name in ("model.safetensors", "pytorch_model.bin")
    )
    if only_projector and (path / PROJECTOR).is_file():
        return _projector(path / PROJECTOR, model_cfg)
    return _full(path, model_cfg, vocab_size, vision_tower)


def _full(
    path: Path,
    model_cfg: Mapping,
    vocab_size: int | None,
    vision_tower: str | Path | None,
) -> Imported:
    """Import a whole model; the tower may be absent (it is then the official one)."""
    state = read_state(path)
    unused = [key for key in state if key.startswith(_UNUSED)]
    if unused:
        for key in unused:
            del state[key]
        print_log(
            f"{path}: {len(unused)} unused weights {_UNUSED}* left out.", "current"
        )
    has_tower = any(key.startswith(_TOWER) for key in state)
    if vision_tower is None and (path / "vision_tower").is_dir() and not has_tower:
        vision_tower = path / "vision_tower"
    if vision_tower is not None:
        if has_tower:
            raise ValueError(
                f"{path} holds a tower, so vision_tower='{vision_tower}' would be a "
                "second one."
            )
        for key, tensor in read_state(vision_tower).items():
            state[f"{_TOWER}vision_model.{key.rpartition('vision_model.')[2]}"] = tensor
    layout = detect_layout(state, str(path))
    if layout is not LLAVA:
        raise ValueError(
            f"{path}: weights have the layout '{layout.name}', not the official one; "
            "use from_hf.py."
        )
    model_cfg = plain_model_cfg(model_cfg)
    canonical = to_canonical(state, official_layout(state), str(path))
    rows = _rows(canonical, model_cfg, vocab_size, path)
    imported = fit_to_model(canonical, model_cfg, str(path), rows)
    for lost in sorted(set(PARTS) - set(imported.parts)):
        print_log(
            f"{path}: holds no {lost}; it must come from model.{lost}.name_or_path "
            "or another checkpoint.",
            logger="current",
            level=30,
        )
    return imported


def _projector(path: Path, model_cfg: Mapping) -> Imported:
    """Import what stage 1 trains."""
    state = {}
    for key, tensor in read_file(path).items():
        word = next((word for word in _STAGE_1 if word in key), None)
        rest = key.partition(word)[2] if word else ""
        state[f"model.{word}{rest}" if word else key] = tensor
    model_cfg = plain_model_cfg(model_cfg)
    canonical = to_canonical(state, official_layout(state), str(path))
    if EMBED in canonical:
        raise ValueError(
            f"{path}: holds 'model.embed_tokens.weight', so it was trained with "
            "mm_use_im_start_end; start and end tokens are not supported."
        )
    # Stage 1 shows single views; files of LLaVA-1.6 leave the newline out.
    imported = fit_to_model(canonical, model_cfg, str(path), optional=(NEWLINE,))
    if any(key.endswith("image_newline") for key in imported.omitted):
        print_log(f"{path}: no image_newline; it starts at random.", "current", 30)
    return imported


def _lora(
    path: Path, model_cfg: Mapping, base: str | Path | None, vocab_size: int | None
) -> Imported:
    """Import adapters: merged into ``base``, or under our adapter names."""
    adapter = next((path / n for n in _ADAPTERS if (path / n).is_file()), None)
    if adapter is None:
        raise FileNotFoundError(f"{path}: adapter_config.json without {_ADAPTERS}.")
    pairs = _without_peft(read_file(adapter))
    extra: dict[str, torch.Tensor] = {}
    if (path / EXTRA).is_file():
        extra = _without_peft(read_file(path / EXTRA))
        extra = to_canonical(extra, official_layout(extra), str(path / EXTRA))
    else:
        print_log(f"{path}: no {EXTRA}, so no connector.", "current", 30)
    settings = read_json(path / "adapter_config.json")
    odd = [name for name in _UNUSUAL if settings.get(name)]
    if odd:
        raise ValueError(f"{path / 'adapter_config.json'}: {odd} are not supported.")
    if base is None:
        return _as_adapters(path, model_cfg, pairs, extra, settings)
    model_cfg = plain_model_cfg(model_cfg)
    canonical = _base_weights(Path(base))
    _merge(canonical, pairs, settings["lora_alpha"] / settings["r"], path)
    clash = [n for n in extra if n in canonical and not n.startswith("connector.")]
    if clash:
        print_log(f"{path / EXTRA} replaces {clash[:5]} of {base}.", "current")
    canonical.update(extra)
    rows = _rows(canonical, model_cfg, vocab_size, path)
    return fit_to_model(canonical, model_cfg, f"{path} merged into {base}", rows)


def _as_adapters(
    path: Path, model_cfg: Mapping, pairs: dict, extra: dict, settings: dict
) -> Imported:
    """Keep adapters as adapters of our language model."""
    ours = model_cfg["language_model"].get("lora")
    theirs = dict(r=settings["r"], alpha=settings["lora_alpha"])
    if not ours or any(ours.get(k) != v for k, v in theirs.items()):
        raise ValueError(
            f"{path}: adapters have {theirs}, but model.language_model.lora={ours}. "
            "Take a config with the same lora, or give --base to merge them."
        )
    canonical = dict(extra)
    for key, tensor in pairs.items():
        name = LLAVA.canonical(key.removesuffix(".weight"))
        if name is None:
            raise ValueError(f"{path}: adapter key '{key}' is not of a LLaVA.")
        canonical[f"{name}.default.weight"] = tensor
    full = dict(model_cfg)
    full["language_model"] = {
        k: v for k, v in model_cfg["language_model"].items() if k != "quantization"
    }
    parts = ("connector", "language_model") if extra else ("language_model",)
    target = meta_state(full)
    fitted = from_canonical(
        canonical,
        target,
        OURS,
        parts=parts,
        only=lambda n: n.startswith("connector.") or ".lora_" in n or n in extra,
        source=str(path),
    )
    omitted = tuple(sorted(set(target) - set(fitted)))
    imported = Imported(fitted, dict(model_cfg), parts, str(path), omitted)
    imported.meta["adapters"] = theirs
    return imported


def _without_peft(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop the wrapper's prefix, and the adapter name of some peft versions."""
    return {
        key.removeprefix("base_model.model.").replace(".default.weight", ".weight"): v
        for key, v in state.items()
    }


def _base_weights(base: Path) -> dict[str, torch.Tensor]:
    """Read the language model that adapters sit on: bare, or inside a LLaVA."""
    state = read_state(base)
    inside = any(key.startswith(LLAVA.marks) for key in state)
    layout = official_layout(state) if inside else CAUSAL_LM
    return to_canonical(state, layout, str(base))


def _merge(canonical: dict, pairs: dict, scale: float, path: Path) -> None:
    """Add ``scale * B A`` to each base weight, in float32, in place."""
    names = {key.rpartition(".lora_")[0] for key in pairs}
    strays = [k for k in pairs if ".lora_A." not in k and ".lora_B." not in k]
    if strays:
        raise ValueError(f"{path}: keys that are no LoRA pair: {strays[:10]}.")
    for name in sorted(names):
        try:
            down, up = pairs[f"{name}.lora_A.weight"], pairs[f"{name}.lora_B.weight"]
            target = f"{LLAVA.canonical(name + '.')}weight"
            weight = canonical[target]
        except KeyError as error:
            raise ValueError(
                f"{path}: adapter of '{name}' has no {error.args[0]!r} (pair or base "
                "weight)."
            ) from error
        delta = up.float() @ down.float() * scale
        if delta.shape != weight.shape:
            raise ValueError(
                f"{path}: adapter of '{name}' is {tuple(delta.shape)}, base weight "
                f"{tuple(weight.shape)}."
            )
        canonical[target] = (weight.float() + delta).to(weight.dtype)


def _rows(
    canonical: dict, model_cfg: Mapping, vocab_size: int | None, path: Path
) -> int | None:
    """Return the rows to keep, telling when some go."""
    configured = (model_cfg["language_model"].get("config") or {}).get("vocab_size")
    configured = configured if vocab_size is None else vocab_size
    have = len(canonical[EMBED]) if EMBED in canonical else None
    if configured is not None and have is not None and have > configured:
        print_log(
            f"{path}: {have} embedding rows cut to {configured}; the tokens behind the "
            "vocabulary are lost.",
            logger="current",
            level=30,
        )
        return configured
    return None
