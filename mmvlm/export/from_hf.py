"""A transformers LLaVA folder into our checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmvlm.export.importing import Imported, fit_to_model, plain_model_cfg
from mmvlm.export.keys import HF_FLAT, HF_NESTED, detect_layout, to_canonical
from mmvlm.export.state import read_json, read_state
from mmvlm.models.utils.hf_loading import plain_fields


def import_hf(
    folder: str | Path,
    model_cfg: Mapping[str, Any] | None = None,
    *,
    vocab_size: int | None = None,
) -> Imported:
    """Read a ``LlavaForConditionalGeneration`` folder.

    Args:
        folder (str | Path): holds ``config.json`` and weights (one file or
            shards, safetensors or bin; layout of any transformers version).
        model_cfg (Mapping | None): our ``model`` config that the weights must
            fit; None derives one from ``config.json``.
        vocab_size (int | None): cut embedding and head to that many rows, which
            takes the image token and the padding off. None keeps all rows, or
            cuts to what ``model_cfg`` asks for.

    Raises:
        ValueError: for another model type, shapes that do not fit, or keys that
            are missing or unknown (listed).
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    if config.get("model_type") != "llava":
        hint = ""
        if str(config.get("model_type", "")).startswith("llava_"):
            hint = " An official LLaVA folder goes through from_llava.py."
        raise ValueError(
            f"{folder / 'config.json'}: model_type={config.get('model_type')!r}, "
            f"expected 'llava'.{hint}"
        )
    if model_cfg is None:
        model_cfg = model_cfg_from_hf(config)
        if vocab_size is not None:
            model_cfg["language_model"]["config"]["vocab_size"] = vocab_size
    else:
        model_cfg = plain_model_cfg(model_cfg)
        configured = (model_cfg["language_model"].get("config") or {}).get("vocab_size")
        vocab_size = configured if vocab_size is None else vocab_size
        _check_facts(config, model_cfg, folder)
    state = read_state(folder)
    layout = detect_layout(state, str(folder))
    if layout not in (HF_NESTED, HF_FLAT):
        raise ValueError(f"{folder}: weights have the layout '{layout.name}'.")
    canonical = to_canonical(state, layout, str(folder))
    imported = fit_to_model(canonical, model_cfg, str(folder), vocab_size)
    imported.meta["image_token_index"] = config.get("image_token_index")
    return imported


def model_cfg_from_hf(config: Mapping[str, Any]) -> dict:
    """Derive our ``model`` config from the ``config.json`` of a LLaVA folder.

    The parts carry their transformers configs, so no other file is needed to
    build them.

    Raises:
        ValueError: for a setting that our parts do not have.
    """
    from transformers import LlavaConfig

    full = LlavaConfig.from_dict(dict(config))
    if full.projector_hidden_act != "gelu":
        raise ValueError(
            f"config.json: projector_hidden_act='{full.projector_hidden_act}', "
            "expected 'gelu'."
        )
    layers, select = _selection(config)
    return dict(
        type="VisionLanguageModel",
        vision_encoder=dict(
            type="HFVisionEncoder", config=plain_fields(full.vision_config)
        ),
        connector=dict(
            type="MLPConnector", depth=2, select_layers=layers, select_feature=select
        ),
        language_model=dict(type="HFCausalLM", config=plain_fields(full.text_config)),
    )


def _selection(config: Mapping[str, Any]) -> tuple[list[int], str]:
    """Return select_layers and select_feature of a LLaVA config."""
    layer = config.get("vision_feature_layer", -2)
    layers = [layer] if isinstance(layer, int) else list(layer)
    strategy = config.get("vision_feature_select_strategy", "default")
    return layers, "patch" if strategy == "default" else "cls_patch"


def _check_facts(config: Mapping, model_cfg: Mapping, folder: Path) -> None:
    """Hold what no tensor shape shows against the given config."""
    layers, _ = _selection(config)
    chosen = list(model_cfg["connector"].get("select_layers", (-2,)))
    if chosen != layers:
        raise ValueError(
            f"{folder / 'config.json'}: vision_feature_layer={layers}, but "
            f"model.connector.select_layers={chosen}."
        )
