"""Build transformers models from a path, a config, or both, on any device."""

from __future__ import annotations

import json
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from mmvlm.utils.files import pretrained_source
from mmvlm.utils.precision import cast_weights

# What must agree between a given config and the one found beside the weights.
_WIDTH_FIELDS = (
    "model_type hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads vocab_size patch_size image_size".split()
)

#: Architectures that AutoConfig does not list though they stand alone here.
_UNLISTED = {
    "blip_2_vision_model": "transformers:Blip2VisionConfig",
    "kosmos_2_text_model": (
        "transformers.models.kosmos2.configuration_kosmos2:Kosmos2TextConfig"
    ),
}


def on_meta() -> bool:
    """Whether tensors are being created on the ``meta`` device."""
    return torch.empty(0).is_meta


def known_configs() -> Mapping[str, Any]:
    """Return transformers' architectures, with vision halves that it leaves out."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for model_type, name in _UNLISTED.items():
        if model_type not in CONFIG_MAPPING:
            config = pkgutil.resolve_name(name)
            transformers.AutoConfig.register(model_type, config)
    return CONFIG_MAPPING


def make_config(config: dict, where: str) -> Any:
    """Build a transformers config from a dict with ``model_type``.

    Raises:
        ValueError: without ``model_type``, or with an unknown one.
    """
    from transformers import AutoConfig

    known_configs()
    fields = dict(config)
    model_type = fields.pop("model_type", None)
    if model_type is None:
        raise ValueError(f"{where}.config needs 'model_type' (for example 'llama').")
    try:
        return AutoConfig.for_model(model_type, **fields)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{where}.config.model_type={model_type!r} is unknown to this "
            f"transformers version: {error!s:.200}"
        ) from error


def resolve_config(
    name_or_path: str | None,
    config: dict | None,
    where: str,
    trust_remote_code: bool = False,
    vision: bool = False,
) -> tuple[Any, bool]:
    """Return (transformers config, whether weights are to be loaded).

    On the ``meta`` device none are: the architecture is ``config``, or the one
    found at the path.

    Raises:
        ValueError: neither path nor config, or fields that disagree with the
            config found at the path.
        FileNotFoundError: a path that holds no model.
    """
    if name_or_path is None and config is None:
        raise ValueError(f"{where}: give 'name_or_path', or 'config' to build from.")
    if name_or_path is None or (config is not None and on_meta()):
        return make_config(config, where), False
    from transformers import AutoConfig

    path, file = pretrained_source(name_or_path)
    try:
        if not file and os.path.isdir(path):
            _check_folder(Path(path))
        found = AutoConfig.from_pretrained(
            path, trust_remote_code=trust_remote_code, **file
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{where}.name_or_path={name_or_path!r}: no model there "
            f"({error!s:.160}). Give a folder with config.json and weights, or "
            "name_or_path=None to build random weights from 'config'."
        ) from error
    if vision:
        found = getattr(found, "vision_config", None) or found
    for field in _WIDTH_FIELDS if config is not None else ():
        want = config.get(field)
        got = getattr(found, field, None)
        if want is not None and got is not None and want != got:
            raise ValueError(
                f"{where}.config.{field}={want!r}, but the model at "
                f"{name_or_path!r} has {got!r}. Correct one of them."
            )
    return found, not on_meta()


def _check_folder(folder: Path) -> None:
    """Let a folder's own file name its architecture.

    transformers would take the first one that occurs in the folder's name, with
    default sizes.
    """
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not {"model_type", "auto_map"} & set(fields):
        raise ValueError("config.json has no 'model_type'")


def plain_fields(config: Any) -> dict[str, Any]:
    """Return a transformers config as :func:`make_config` takes it.

    Args:
        config (PretrainedConfig): fields with its class's defaults are left out.
    """
    drop = (
        *("_attn_implementation_autoset", "torch_dtype", "dtype", "_name_or_path"),
        "transformers_version",
    )
    fields = {k: v for k, v in config.to_diff_dict().items() if k not in drop}
    return {"model_type": config.model_type, **fields}


def build_language_model(
    auto_class: str,
    name_or_path: str | None,
    config: dict | None,
    *,
    torch_dtype: str | None,
    attention: str | None = None,
    trust_remote_code: bool = False,
) -> torch.nn.Module:
    """Build a language model of transformers.

    Args:
        auto_class (str): ``AutoModelForCausalLM`` or ``AutoModelForSeq2SeqLM``.
        name_or_path (str | None): folder, hub name or GGUF file; None: random weights.
        config (dict | None): transformers config with ``model_type``.
        torch_dtype (str | None): of the weights; None: that of the file, or float32.
        attention (str | None): transformers' implementation; None: its default.
        trust_remote_code (bool): run model code from the hub.
    """
    import transformers

    auto = getattr(transformers, auto_class)
    resolved, load = resolve_config(
        name_or_path, config, "language_model", trust_remote_code
    )
    extra: dict[str, Any] = {}
    headed = _needs_head(resolved) and auto_class == "AutoModelForCausalLM"
    if headed:
        from .headed_decoder import headed_class, text_config

        resolved = text_config(resolved)
        auto, extra["config"] = headed_class(type(resolved)), resolved
    if attention is not None:
        extra["attn_implementation"] = attention
    if load:
        path, file = pretrained_source(name_or_path)
        model, info = auto.from_pretrained(
            path,
            **file,
            torch_dtype=as_dtype(torch_dtype) or "auto",
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **extra,
        )
        if info["missing_keys"]:
            raise missing_weights("language_model", name_or_path, info["missing_keys"])
        return model
    if headed:
        model = auto._from_config(**extra)
    else:
        model = auto.from_config(resolved, trust_remote_code=trust_remote_code, **extra)
    return cast_weights(model, as_dtype(torch_dtype) or torch.float32)


def _needs_head(config: Any) -> bool:
    """Whether a config is of a text decoder (Qwen2-VL's) but of no causal LM."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING

    kind = type(getattr(config, "text_config", config))
    return type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and (
        kind not in MODEL_FOR_CAUSAL_LM_MAPPING and kind in MODEL_MAPPING
    )


def missing_weights(where: str, path: str | None, keys: Iterable[str]) -> ValueError:
    """Return the error of a checkpoint that lacks tensors of the model."""
    keys = sorted(keys)
    return ValueError(
        f"{where}.name_or_path={path!r}: missing {len(keys)} tensors, for example "
        f"{keys[:4]}. They would stay random; is it the checkpoint of this model?"
    )


def read_weights(
    folder: str, wanted: Callable[[str], bool] = lambda key: True
) -> dict[str, torch.Tensor]:
    """Read tensors of a folder of safetensors or ``.bin`` files.

    Args:
        folder (str): with the files.
        wanted (Callable[[str], bool]): which names to read.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    from safetensors import safe_open

    state: dict[str, torch.Tensor] = {}
    files = sorted(Path(folder).glob("*.safetensors"))
    for file in files:
        with safe_open(file, framework="pt") as opened:
            state.update({k: opened.get_tensor(k) for k in opened.keys() if wanted(k)})
    if files:
        return state
    files = sorted(Path(folder).glob("pytorch_model*.bin"))
    if not files:
        raise FileNotFoundError(f"no *.safetensors or pytorch_model*.bin in {folder}.")
    for file in files:
        content = torch.load(file, map_location="cpu", weights_only=True)
        state.update({key: value for key, value in content.items() if wanted(key)})
    return state


def as_dtype(name: str | torch.dtype | None) -> torch.dtype | None:
    """Return the dtype of a name.

    Raises:
        ValueError: for a name that is no dtype of weights.
    """
    if name is None or isinstance(name, torch.dtype):
        return name
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(
            f"torch_dtype={name!r}: expected 'float32', 'bfloat16' or 'float16'."
        )
    return dtype
