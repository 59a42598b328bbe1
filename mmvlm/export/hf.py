"""Write a model as a folder that plain transformers loads.

Only what ``LlavaForConditionalGeneration`` can express is exported; anything
else is refused before a weight is written.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.export.hf_files import (
    add_image_token,
    save_generation_config,
    save_processor,
)
from mmvlm.export.keys import (
    OURS,
    connector_depth,
    detect_layout,
    from_canonical,
    grow_rows,
    to_canonical,
    to_hf_disk,
)
from mmvlm.utils.files import check_empty, whole_folder, writing_into

EMBED = "language_model.model.embed_tokens.weight"
HEAD = "language_model.lm_head.weight"
#: Towers whose keys have ``vision_model.`` on disk.
_PREFIXED_TOWERS = ("clip_vision_model", "siglip_vision_model")
#: Settings of one run that a saved config must not carry on.
_RUN_FIELDS = (
    "_name_or_path",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "attn_implementation",
    "quantization_config",
    "output_hidden_states",
    "output_attentions",
)


def check_exportable(model: Any) -> None:
    """Refuse an architecture that transformers' LLaVA cannot express.

    Args:
        model (VisionLanguageModel): built, weights may be on ``meta``.

    Raises:
        ValueError: listing everything that has no counterpart.
    """
    from mmvlm.models.connectors.mlp import MLPConnector
    from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
    from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder

    parts, problems = dict(model.parts), []
    for name, expected in (
        ("vision_encoder", HFVisionEncoder),
        ("connector", MLPConnector),
        ("language_model", HFCausalLM),
    ):
        part = parts.pop(name, None)
        if type(part) is not expected:
            inner = [type(m).__name__ for m in getattr(part, "stages", ())]
            inside = f" ({', '.join(inner)})" if inner else ""
            problems.append(
                f"model.{name}.type='{type(part).__name__}'{inside}, expected "
                f"'{expected.__name__}'"
            )
    problems += [f"model.{name}: no such part in LLaVA" for name in parts]
    if not problems:
        problems = _details(model)
    if problems:
        raise ValueError(
            "this model has no counterpart in transformers' "
            f"LlavaForConditionalGeneration: {'; '.join(problems)}."
        )


def _details(model: Any) -> list[str]:
    """Return what hinders the export of parts whose types are right."""
    problems, connector = [], model.connector
    kinds = [type(m).__name__ for m in connector.proj]
    if kinds != ["Linear", "GELU", "Linear"] or connector.proj[1].approximate != "none":
        problems.append(
            f"model.connector is {' '.join(kinds)}, expected depth=2 and act='gelu'"
        )
    prefix = model.vision_spec.num_prefix_tokens
    if prefix > 1:
        problems.append(
            f"model.vision_encoder has {prefix} prefix tokens, expected 0 or 1"
        )
    stem = model.language_model.model.base_model_prefix
    if stem != "model":
        problems.append(
            f"model.language_model keeps its decoder in '{stem}', expected 'model'"
        )
    return problems


def _plain(config: Any, **changes: Any) -> Any:
    """Copy a transformers config without the settings of one run."""
    from transformers import AutoConfig

    fields = {k: v for k, v in config.to_dict().items() if k not in _RUN_FIELDS}
    return AutoConfig.for_model(**{**fields, **changes})


def llava_config(model: Any, image_token_id: int, rows: int) -> Any:
    """Build the ``LlavaConfig`` of a model.

    Args:
        model (VisionLanguageModel): exportable.
        image_token_id (int): of ``<image>``.
        rows (int): rows of the embedding table after growing.
    """
    from transformers import LlavaConfig

    spec, layers = model.vision_spec, model.connector.select_layers
    text = _plain(model.language_model.config, vocab_size=rows, use_cache=True)
    rows_cols = spec.grid(spec.image_size, spec.image_size)
    strategy = select_strategy(model)
    kept = spec.num_prefix_tokens if strategy == "full" else 0
    config = LlavaConfig(
        vision_config=_plain(model.vision_encoder.config),
        text_config=text,
        image_token_index=image_token_id,
        projector_hidden_act="gelu",
        vision_feature_layer=layers[0],
        vision_feature_select_strategy=strategy,
        image_seq_length=rows_cols[0] * rows_cols[1] + kept,
        multimodal_projector_bias=any(
            name.endswith("bias") for name, _ in model.connector.named_parameters()
        ),
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )
    config.architectures = ["LlavaForConditionalGeneration"]
    return config


def select_strategy(model: Any) -> str:
    """Return ``default`` (the class token goes) or ``full`` (all tokens stay)."""
    drops = model.vision_spec.num_prefix_tokens == 1
    return "default" if drops and model.connector.select_feature == "patch" else "full"


def export_hf(
    model: Any,
    processor: VLMProcessor,
    folder: str | Path,
    *,
    view: dict,
    generation: dict | None = None,
    pad_to_multiple: int | None = 64,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write config, weights, tokenizer, processor and generation defaults.

    The folder appears whole or not at all.

    Args:
        model (VisionLanguageModel): loaded, LoRA already merged.
        processor (VLMProcessor): tokenizer and template.
        folder (str | Path): new folder.
        view (dict): the view transform of the test pipeline.
        generation (dict | None): generation defaults (``max_new_tokens``, ...).
        pad_to_multiple (int | None): rows of a table that must grow for the
            image token are rounded up to it.
        dtype (torch.dtype | None): of the written weights; None keeps it.
        overwrite (bool): replace an existing folder.

    Raises:
        FileExistsError: when ``folder`` holds something.
        ValueError: when the model has no counterpart in transformers.
    """
    folder = Path(folder)
    check_empty(folder, overwrite)
    check_exportable(model)
    tokenizer, image_token_id = add_image_token(processor.tokenizer)
    state = to_canonical(model.state_dict(), OURS, source="model")
    if connector_depth(state) != 2:
        raise ValueError(f"connector has {connector_depth(state)} layers, expected 2.")
    for name in (EMBED, HEAD):
        if name in state:
            state[name] = grow_rows(state[name], image_token_id + 1, pad_to_multiple)
    config = llava_config(model, image_token_id, len(state[EMBED]))
    with whole_folder(folder, replace=overwrite) as temporary:
        _save_weights(state, config, temporary, dtype)
        save_processor(temporary, processor, tokenizer, view, select_strategy(model))
        save_generation_config(temporary, processor, generation)
    print_log(
        f"exported to {folder}: image token id {image_token_id}, {len(state[EMBED])} "
        "embedding rows.",
        logger="current",
    )
    return folder


def _save_weights(
    state: dict[str, torch.Tensor], config: Any, folder: Path, dtype: Any
) -> None:
    """Hold canonical weights against an empty LLaVA and write them with its config."""
    from huggingface_hub import save_torch_state_dict
    from transformers import LlavaForConditionalGeneration

    with torch.device("meta"):
        target = LlavaForConditionalGeneration(config).state_dict()
    tied = bool(config.text_config.tie_word_embeddings)
    layout = detect_layout(target, "LlavaForConditionalGeneration")
    optional = [HEAD] if tied else []
    from_canonical(state, target, layout, optional=optional, source="model")
    if tied:
        state = {name: value for name, value in state.items() if name != HEAD}
    written = dtype or state[EMBED].dtype
    state = {
        name: value.to(written).contiguous() if value.is_floating_point() else value
        for name, value in state.items()
    }
    config.torch_dtype = written
    config.save_pretrained(str(folder))
    prefixed = config.vision_config.model_type in _PREFIXED_TOWERS
    tower_prefix = "vision_model." if prefixed else ""
    with writing_into(folder / "model.safetensors"):  # or its shards
        save_torch_state_dict(to_hf_disk(state, tower_prefix), str(folder))
    for file in folder.glob("*.safetensors"):
        # safetensors writes files that only their owner may read.
        shutil.copymode(folder / "config.json", file)
