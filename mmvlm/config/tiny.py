"""The ``--tiny`` switch: any config with towers and data that fit a laptop.

Types, connector keywords (but sizes that a class lists in ``tiny_fields``),
pipeline, template and training rules stay; encoder, language model, tokenizer and
data become tiny twins of the same classes.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from mmvlm.datasets.processor import pipelines, processor_config

from .parts import holds_parts, part_configs
from .toy_data import make_toy_llava

_VISION = dict(
    hidden_size=32,
    intermediate_size=64,
    num_attention_heads=4,
    image_size=28,
    patch_size=7,
)
_LANGUAGE = dict(
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
)
#: Numbers of an architecture that say nothing of its size.
_KEPT = ("model_type", "hidden_act", "layer_norm_eps", "rms_norm_eps", "rope_theta")
_KEPT += ("tie_word_embeddings", "attention_bias", "num_register_tokens")
_BATCH_SIZE = 2
_KEPT_OPTIONS = ("type", "mean", "std", "lora", "gradient_checkpointing", "reads")

#: Stands for the template that a full tokenizer brings itself.
_CHATML = dict(
    special_tokens=["<|im_start|>", "<|im_end|>"],
    chat_template="{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + "
    "m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
)


def toy_folder() -> str:
    """Return the folder of the toy data: one per user, reused between runs."""
    user = getattr(os, "getuid", lambda: 0)()
    return os.path.join(tempfile.gettempdir(), f"mmvlm-toy-{user}")


def make_tiny(cfg: Config, max_iters: int = 2, folder: str | None = None) -> Config:
    """Replace what is large in ``cfg``, in place.

    Args:
        cfg (mmengine.Config): a full config.
        max_iters (int): optimizer steps.
        folder (str | None): where the toy data are written; None takes
            :func:`toy_folder`.

    Returns:
        mmengine.Config: the same object.

    Raises:
        ValueError: for an encoder or language model that is loaded from a path
            and gives no ``config`` to shrink.
    """
    tokenizer = _tiny_tokenizer(cfg)
    for holder in (cfg, cfg.get("processor") or {}):
        if holder.get("tokenizer") is not None:
            holder["tokenizer"] = tokenizer
    if cfg.get("model") is not None:
        cfg.model = tiny_model(cfg.model, _special_ids(tokenizer))
    _tiny_data(cfg, folder or toy_folder())
    _tiny_schedule(cfg, max_iters)
    return cfg


def tiny_model(model: dict, ids: dict[str, Any]) -> dict:
    """Return the model's config with its towers shrunk.

    Args:
        model (dict): ``model`` of a config.
        ids (dict): ``vocab_size`` and special token ids of the tokenizer.
    """
    layers = _layers_needed(model)
    several = {key: dict(value) for key, value in model.items() if holds_parts(value)}
    named = {name: one for group in several.values() for name, one in group.items()}
    # Named parts are shrunk as if they stood beside the others.
    small = _tiny_parts({**model, **named}, ids, layers)
    for key, group in several.items():
        small[key] = {name: small.pop(name) for name in group}
    return {**small, "random_init": True}


def _tiny_parts(model: dict, ids: dict[str, Any], layers: int) -> dict:
    """Shrink every tower below ``model``; encoders get ``layers`` blocks.

    A class whose sizes are not those of a transformers config says its own tiny form,
    ``tiny_config(part, layers, ids)``.
    """
    from mmvlm.models.connectors.base import Connector

    result = dict(model)
    for name, part in model.items():
        if not isinstance(part, dict) or "type" not in part:
            continue
        kind = _class_of(part)
        own = getattr(kind, "tiny_config", None)
        if own is not None:
            kept = {k: v for k, v in part.items() if k in _KEPT_OPTIONS}
            result[name] = {**kept, **own(part, layers, ids)}
        elif part.get("name_or_path") or part.get("config"):
            is_text = name == "language_model"
            config = part.get("config")
            if not config:
                raise ValueError(
                    f"model.{name} has no 'config', so --tiny cannot know its "
                    "architecture. Write config=dict(model_type=...) beside "
                    "name_or_path."
                )
            sizes = {**_LANGUAGE, **ids} if is_text else dict(_VISION)
            if is_text and ids:  # new rows are those of the last ids
                sizes["vocab_size"] -= part.get("num_new_tokens", 0)
            sizes["num_hidden_layers"] = _blocks_needed(part) if is_text else layers
            result[name] = _tiny_part(part, config, sizes)
        elif isinstance(kind, type) and issubclass(kind, Connector):
            result[name] = _tiny_connector(part)
        elif any(isinstance(v, dict) for v in part.values()):
            result[name] = {**_tiny_parts(part, ids, layers), **_tiny_fields(part)}
        else:
            result[name] = {**part, **_tiny_fields(part)}
    return result


def _class_of(part: dict) -> type:
    from mmvlm.registry import MODELS

    kind = part["type"]
    return MODELS.get(kind) if isinstance(kind, str) else kind


def _tiny_fields(part: dict) -> dict:
    """Return the sizes that a registered class takes under ``--tiny``.

    ``tiny_fields`` of a class are a dict, or a function of the part's config and the
    side of tiny images in pixels.
    """
    fields = getattr(_class_of(part), "tiny_fields", {}) if "type" in part else {}
    return dict(fields(part, _VISION["image_size"]) if callable(fields) else fields)


def _tiny_connector(part: dict) -> dict:
    """Shrink a connector, and what is in it, as its classes' ``tiny_fields`` say."""
    inner = {k: _tiny_connector(v) for k, v in part.items() if isinstance(v, dict)}
    return {**part, **inner, **_tiny_fields(part)}


def _tiny_part(part: dict, config: dict, sizes: dict) -> dict:
    kept = {key: config[key] for key in _KEPT if key in config}
    if "num_key_value_heads" not in config:
        sizes.pop("num_key_value_heads", None)
    elif config["num_key_value_heads"] == config.get("num_attention_heads"):
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    if "head_dim" not in config:
        sizes.pop("head_dim", None)
    if hasattr(kind := _class_of(part), "named_sizes"):
        sizes = kind.named_sizes(config["model_type"], sizes)
    dropped = ("name_or_path", "torch_dtype", "quantization", "trust_remote_code")
    result = {k: v for k, v in part.items() if k not in dropped}
    result["config"] = {**kept, **sizes}
    if part.get("attention") == "flash_attention_2":
        result["attention"] = "segment"
    if part.get("new_tokens"):  # a tiny table has no rows to spare
        result["new_tokens"] = {**part["new_tokens"], "first_id": None}
    if part.get("lora"):
        result["lora"] = {**part["lora"], "r": 4, "alpha": 8}
    return result


def _blocks_needed(part: dict) -> int:
    """Return the fewest decoder blocks that every adapter finds a place in."""
    every = [adapter.get("every", 1) for adapter in part.get("adapters") or ()]
    return max([2, *every])


def _layers_needed(model: dict) -> int:
    """Return the fewest encoder blocks that selection and training rules allow."""
    from mmvlm.models.connectors.base import Connector
    from mmvlm.models.vision_encoders.base import VisionEncoder

    layers = [one for part in model.values() for one in _selected(part)]
    needed = [2, *(layer if layer >= 0 else -layer - 1 for layer in layers)]
    rules = model.get("train_parts") or {}
    for name, part in part_configs(model).items():
        rule = rules.get(name)
        if issubclass(part.base, Connector) and isinstance(part.config, dict):
            needed.append(part.config.get("every", 2))
        elif issubclass(part.base, VisionEncoder) and isinstance(rule, dict):
            # The layer before the last is often selected: the last learns nothing.
            needed += [rule.get("from_block", 0) + 2, rule.get("last_blocks", 0) + 1]
    return max(needed)


def _selected(part: Any) -> Iterator[int]:
    """Yield the layers that a connector's config, or what is in it, selects."""
    from mmvlm.registry import MODELS

    if not isinstance(part, dict):
        return
    layers = part.get("select_layers")
    if layers is None and isinstance(part.get("type"), str):
        part_class = MODELS.get(part["type"])
        if part_class is None:  # a codec of new tokens
            return
        accepted = inspect.signature(part_class).parameters
        layers = getattr(accepted.get("select_layers"), "default", None)
        layers = layers or getattr(part_class, "default_layers", ())
    yield from layers or ()
    for value in part.values():
        yield from _selected(value)


def _tiny_tokenizer(cfg: Config) -> dict | None:
    """Return a tokenizer with the special tokens of template and codecs.

    Those that the model brings (``new_tokens``) get their ids behind all others.
    """
    from mmvlm.models.language_models.new_tokens import NewTokens
    from mmvlm.registry import CHAT_TEMPLATES
    from mmvlm.text.templates.tokenizer_chat import TokenizerChatTemplate

    processor = processor_config(cfg)
    full, template = processor["tokenizer"], processor["chat_template"]
    if full is None:
        return None
    new = NewTokens.of(cfg.get("model"))
    brought = () if new is None else new.names
    codec = processor.get("codec") or (isinstance(full, dict) and full.get("codec"))
    own = _codec_tokens(codec) if codec else ()
    options = dict(codec=codec) if codec and not set(own) <= set(brought) else {}
    special: list[str] = []
    if template is not None:
        config = dict(type=template) if isinstance(template, str) else dict(template)
        built = CHAT_TEMPLATES.build(config)
        if isinstance(built, TokenizerChatTemplate):
            special = list(_CHATML["special_tokens"])
            options["chat_template"] = _CHATML["chat_template"]
        else:
            special = list(built.special_tokens)
    special += [token for token in _written_tokens(cfg) if token not in own]
    special = [token for token in special if token not in brought]
    return dict(type="TinyTokenizer", special_tokens=special, **options)


def _written_tokens(cfg: Config) -> list[str]:
    """Return the special tokens that the codecs of training steps write whole."""
    codecs = [
        step["codec"]
        for _, steps in pipelines(cfg, "train_dataloader")
        for step in steps
        if step.get("codec") and step.get("require_tokens", True)
    ]
    return list(dict.fromkeys(t for one in codecs for t in _codec_tokens(one)))


def _codec_tokens(codec: Any) -> tuple[str, ...]:
    from mmvlm.registry import CODECS

    return CODECS.build(dict(codec)).special_tokens


def _special_ids(tokenizer: dict | None) -> dict[str, Any]:
    """Return vocabulary size and special ids for the language model's config."""
    from mmvlm.registry import TOKENIZERS

    if tokenizer is None:
        return {}
    built = TOKENIZERS.build(dict(tokenizer))
    return dict(
        vocab_size=len(built),
        bos_token_id=built.bos_token_id,
        eos_token_id=built.eos_token_id,
        pad_token_id=built.pad_token_id,
    )


def _tiny_data(cfg: Config, folder: str) -> None:
    loader = cfg.get("train_dataloader")
    if loader:
        annotation = make_toy_llava(folder)
        loader = {k: v for k, v in loader.items() if k in ("sampler", "collate_fn")}
        cfg.train_dataloader = dict(
            **loader,
            batch_size=_BATCH_SIZE,
            num_workers=0,
            dataset=dict(
                type="LLaVADataset",
                name="toy",
                data_root=os.path.dirname(annotation),
                ann_file=os.path.basename(annotation),
                image_prefix="images",
                **_tiny_pipeline(cfg),
                **_text_filter(cfg),
            ),
        )
    for name in ("val", "test"):
        for field in (f"{name}_dataloader", f"{name}_cfg", f"{name}_evaluator"):
            if cfg.get(field) is not None:
                cfg[field] = None


def _text_filter(cfg: Config) -> dict:
    """Some templates render images with captions only."""
    from mmvlm.registry import CHAT_TEMPLATES

    template = processor_config(cfg)["chat_template"]
    name = template if isinstance(template, str) else (template or {}).get("type")
    kind = CHAT_TEMPLATES.get(name) if name else None
    captions_only = getattr(kind, "captions_only", False)
    return dict(filter_cfg=dict(modality="image")) if captions_only else {}


def _tiny_pipeline(cfg: Config) -> dict:
    """Take fixed image sizes out of the processor, or the first pipeline.

    Returns:
        dict: ``pipeline`` of the toy data, if the processor does not give it.
    """
    own = cfg.get("processor")
    if own:
        steps = [own["views"]] if own.get("views") else []
        tiny = _tiny_steps([*steps, *own.get("transforms", ())])
        own["transforms"] = tiny[len(steps) :]
        own["views"] = tiny[0] if steps else None
        return {}
    found = pipelines(cfg, "train_dataloader")
    return dict(pipeline=_tiny_steps(next((steps for _, steps in found), [])))


def _tiny_steps(pipeline: list) -> list:
    steps = [{k: v for k, v in step.items() if k != "size"} for step in pipeline]
    for step in steps:
        if isinstance(step.get("tokenizer"), dict):
            step["tokenizer"] = dict(type="TinyTokenizer")
    return steps


def _tiny_schedule(cfg: Config, max_iters: int) -> None:
    if cfg.get("train_cfg"):
        cfg.train_cfg = dict(type="VLMTrainLoop", max_iters=max_iters)
    wrapper = cfg.get("optim_wrapper")
    if wrapper:
        cfg.optim_wrapper = {
            **wrapper,
            "type": "VLMOptimWrapper",
            "accumulative_counts": 1,
            "dtype": None,
        }
    for field in ("strategy", "base_batch_size", "sample_prompts", "load_from"):
        cfg.pop(field, None)
    cfg.load_from = None
    cfg.resume = False
    env = dict(cfg.get("env_cfg") or {})
    env["dist_cfg"] = {**(env.get("dist_cfg") or {}), "backend": "gloo"}
    cfg.env_cfg = env
