"""The official ``config.json`` of LLaVA and its kin: read, compare, written.

Many of its settings show in no weight's shape: which layers are taken, how an image
becomes a square, in which order tiles are joined.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from mmvlm.export.importing import plain_model_cfg, projector_of
from mmvlm.export.state import read_json, read_names
from mmvlm.models.utils.hf_loading import make_config, plain_fields

#: View transform -> ``image_aspect_ratio``; the official default crops the centre.
_ASPECTS = {
    "PadToSquare": "pad",
    "CenterCropSquare": "square",
    "AnyResTiles": "anyres",
}
#: Fields of the language model that must be equal. Not ``vocab_size``: the rows of
#: the weights tell it, and more of them than ours are cut, and said so. What was
#: trained or frozen says nothing of what the weights compute.
_LM_FIELDS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "rms_norm_eps", "hidden_act"),
)
#: What INF-LLaVA's code has fixed; its ``config.json`` is LLaVA's own. We write what
#: differs under the key ``dual_perspective``.
_DUAL = dict(
    grid=3,
    heads=8,
    out_size=None,
    pairing="code",
    fusion="linear_concat",
    branches="both",
    enhance=True,
    average_with_resized=True,
    pooling="bilinear",
)
_DUAL_VIEWS = "DualPerspectiveViews"


def check_llava_config(
    official: Mapping[str, Any],
    model_cfg: Mapping[str, Any],
    view: Mapping[str, Any] | None = None,
    *,
    source: str = "config.json",
    has_tower: bool = True,
    max_length: int | None = None,
) -> None:
    """Hold an official config against ours, key by key.

    Args:
        official (Mapping): content of ``config.json``.
        model_cfg (Mapping): our ``model`` config.
        view (Mapping | None): the view transform of the pipeline; None leaves the
            keys of images out.
        source (str): for messages.
        has_tower (bool): the weights hold the tower, whatever its name is.
        max_length (int | None): tokens of a training sample; a difference is told,
            not refused.

    Raises:
        ValueError: listing every key that differs, ours and theirs.
    """
    ours = facts(model_cfg, view)
    theirs = _read(official, ours.pop("num_layers"))
    if has_tower:
        ours.pop("mm_vision_tower", None)
    differing = [
        f"{key}={theirs[key]!r}, ours {ours[key]!r}"
        for key in ours
        if key in theirs and not _equal(theirs[key], ours[key])
    ]
    if differing:
        raise ValueError(
            f"{source}: not the model of the config: {'; '.join(differing)}. "
            "--print-config writes the config that fits."
        )
    theirs_length = official.get("tokenizer_model_max_length")
    if max_length and theirs_length and theirs_length != max_length:
        print_log(
            f"{source}: tokenizer_model_max_length={theirs_length}, the config cuts "
            f"training samples at {max_length}.",
            logger="current",
            level=30,
        )


def facts(model_cfg: Mapping[str, Any], view: Mapping[str, Any] | None) -> dict:
    """Return what our config says under the official keys; lists of layers from 0."""
    from mmvlm.registry import MODELS

    plain = plain_model_cfg(model_cfg)
    with torch.device("meta"):
        model = MODELS.build(plain)
    spec, connector = model.vision_spec, model.connector
    projector, tower = projector_of(plain["connector"]), plain["vision_encoder"]
    lm = model.language_model.config
    rope = _rope(lm.to_dict())
    found = dict(
        num_layers=spec.num_layers,
        mm_vision_select_layer=_from_zero(connector.select_layers, spec.num_layers),
        mm_vision_select_feature=getattr(connector, "select_feature", "patch"),
        mm_projector_type=_projector_type(projector),
        mm_hidden_size=spec.width,
        mm_use_im_start_end=False,
        s2_scales=sorted(tower["scales"]) if tower.get("scales") else None,
        **{key: getattr(lm, key) for key in _LM_FIELDS if hasattr(lm, key)},
        **rope,
    )
    fuser = plain["connector"].get("fuser") or {}
    if fuser.get("type") == "DualPerspectiveFuser":
        options = {key: fuser[key] for key in _DUAL if fuser.get(key) is not None}
        found.update(_dual(options))
    if name := _tower_name(tower):
        found["mm_vision_tower"] = name
    if view is not None:
        kind = view["type"]
        found["image_aspect_ratio"] = _ASPECTS.get(kind, kind)
        if kind == _DUAL_VIEWS:
            found["image_aspect_ratio"] = "pad" if view.get("pad") else "square"
        if kind == "AnyResTiles":
            found["image_grid_pinpoints"] = _pinpoints(view, spec.image_size)
            unpad = plain["connector"].get("unpad", True)
            tiled = plain["connector"]["type"] == "AnyResConnector"
            names = ("spatial", "spatial_unpad")
            found["mm_patch_merge_type"] = names[bool(unpad)] if tiled else "flat"
    return found


def _read(official: Mapping[str, Any], num_layers: int) -> dict:
    """Return an official config in the form of :func:`facts`."""
    theirs = {**official, **_rope(official), **_dual(official.get("dual_perspective"))}
    if "mm_vision_select_layer" in theirs:
        layers = parse_layers(theirs["mm_vision_select_layer"])
        theirs["mm_vision_select_layer"] = _from_zero(layers, num_layers)
    scales = theirs.get("s2_scales") if theirs.get("s2", True) else None
    if isinstance(scales, str):
        scales = sorted(int(word) for word in scales.split(","))
    theirs["s2_scales"] = scales or None
    if theirs.get("mm_vision_tower"):
        theirs["mm_vision_tower"] = os.path.basename(str(theirs["mm_vision_tower"]))
    else:
        theirs.pop("mm_vision_tower", None)
    pins = theirs.get("image_grid_pinpoints")
    if isinstance(pins, list):
        theirs["image_grid_pinpoints"] = [list(pair) for pair in pins]
    if not str(theirs.get("image_aspect_ratio")).startswith("anyres"):
        theirs.pop("mm_patch_merge_type", None)  # has no effect on one view
        theirs.pop("image_grid_pinpoints", None)
    stated = {key: v for key, v in theirs.items() if v is not None}
    if "mm_vision_tower" not in official:
        return stated  # a file that somebody shortened says nothing by what it lacks
    defaults = dict(s2_scales=None, rope_scaling=None, image_aspect_ratio="square")
    return {**defaults, **stated}


def _dual(changes: Mapping[str, Any] | None) -> dict:
    """Return INF-LLaVA's settings as facts."""
    settings = {**_DUAL, **(changes or {})}
    return {f"dual_perspective.{key}": value for key, value in settings.items()}


def _rope(fields: Mapping[str, Any]) -> dict:
    """Return base and scaling of rotary positions, which have other names in 5.x."""
    scaling = dict(fields.get("rope_parameters") or fields.get("rope_scaling") or {})
    theta = scaling.pop("rope_theta", fields.get("rope_theta"))
    kind = scaling.pop("type", None)
    kind = scaling.pop("rope_type", kind)
    scaled = kind not in (None, "default")
    found = dict(rope_scaling=dict(scaling, rope_type=kind) if scaled else None)
    return found if theta is None else dict(found, rope_theta=theta)


def parse_layers(value: Any) -> list[int]:
    """Return the layers of ``mm_vision_select_layer``: -2, or ``list-22/-17/-2``."""
    if isinstance(value, list | tuple):
        return [int(layer) for layer in value]
    text = str(value)
    return [int(word) for word in text.removeprefix("list").split("/")]


def _from_zero(layers: Any, num_layers: int) -> list[int]:
    return [layer if layer >= 0 else layer + num_layers + 1 for layer in layers]


def _projector_type(projector: Mapping[str, Any]) -> str:
    if projector["type"] == "LinearConnector":
        return "linear"
    return f"mlp{projector.get('depth', 2)}x_{projector.get('act', 'gelu')}"


def _tower_name(tower: Mapping[str, Any]) -> str | None:
    """Return the last word of a tower's path, also inside S2."""
    inner = tower.get("encoder")
    path = (inner if isinstance(inner, Mapping) else tower).get("name_or_path")
    return os.path.basename(str(path).rstrip("/")) if path else None


def _pinpoints(view: Mapping[str, Any], image_size: int) -> list[list[int]]:
    from mmvlm.registry import TRANSFORMS

    tilings = TRANSFORMS.build(dict(view)).tilings
    side = view.get("size") or image_size
    return [[columns * side, rows * side] for rows, columns in tilings]


def _equal(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, list) and isinstance(ours, list):
        return theirs == ours
    if isinstance(theirs, float) or isinstance(ours, float):
        return abs(float(theirs) - float(ours)) <= 1e-9 * max(1.0, abs(float(ours)))
    return theirs == ours


# The config that fits ------------------------------------------------------------

_TOKENIZER_FILES = ("tokenizer_config", "special_tokens_map", "added_tokens")
#: Word of an architecture, or of a base model's name -> template.
_TEMPLATES = {
    "mistral": "mistral_instruct",
    "qwen": "qwen",
    "vicuna": "vicuna_v1",
    "llava-v1.5": "vicuna_v1",
    "llama-2": "llava_llama_2",
    "llama-3": "llama_3",
}
_UNKNOWN_TEMPLATE = "vicuna_v1"
#: See configs/inf_llava/README.md.
_INF_TEMPLATE = dict(
    type="llama_3",
    literal_bos="<|begin_of_text|>",
    system="A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's "
    "questions.",
)


def config_from_llava(official: Mapping[str, Any], folder: str | Path) -> Config:
    """Write the config that official weights fit: model, tokenizer, view.

    Args:
        official (Mapping): content of ``config.json``.
        folder (str | Path): of the weights; has the tokenizer.

    Raises:
        ValueError: for a setting that our parts do not have.
    """
    folder = Path(folder)
    kind = str(official.get("mm_projector_type", "linear"))
    layers = parse_layers(official.get("mm_vision_select_layer", -2))
    feature = official.get("mm_vision_select_feature", "patch")
    chosen = dict(select_layers=layers, select_feature=feature)
    connector = _connector(kind, chosen)
    aspect = str(official.get("image_aspect_ratio") or "square")
    views = {name: view for view, name in _ASPECTS.items()}
    if aspect not in views or official.get("mm_use_im_start_end"):
        raise ValueError(
            f"config.json: image_aspect_ratio={aspect!r}, mm_use_im_start_end="
            f"{official.get('mm_use_im_start_end')!r}: expected one of "
            f"{sorted(views)}, and no start and end tokens."
        )
    view = dict(type=views[aspect])
    dual = any("spatial_embed." in name for name in read_names(folder))
    tower = _known_tower(official)
    if aspect == "anyres":
        merge = official.get("mm_patch_merge_type", "flat")
        side = tower["config"]["image_size"]
        pins = official["image_grid_pinpoints"]
        view["tilings"] = [(height // side, width // side) for width, height in pins]
        if merge != "flat":
            connector = dict(
                type="AnyResConnector",
                connector=connector,
                unpad=merge == "spatial_unpad",
            )
    if dual or len(layers) > 1:
        fuser = dict(type="MMFuser", select_layers=layers)
        if dual:
            fuser.update(type="DualPerspectiveFuser", grid=_DUAL["grid"])
            fuser.update(official.get("dual_perspective") or {})
            view = dict(type=_DUAL_VIEWS, pad=aspect == "pad")
        projector = _connector(kind, {})
        connector = dict(type="FusedConnector", fuser=fuser, projector=projector)
    if official.get("s2_scales") and official.get("s2", True):
        scales = sorted(int(word) for word in str(official["s2_scales"]).split(","))
        tower = dict(type="S2VisionEncoder", encoder=tower, scales=scales)
    model = dict(
        type="VisionLanguageModel",
        vision_encoder=tower,
        connector=connector,
        language_model=dict(type="HFCausalLM", config=_text_config(official)),
    )
    return Config(
        dict(
            default_scope="mmvlm",
            model=model,
            tokenizer=dict(
                type="HFTokenizer", name_or_path=str(folder), use_fast=False
            ),
            chat_template=template_of(official, folder) or _UNKNOWN_TEMPLATE,
            processor=dict(type="VLMProcessor", views=view),
        )
    )


def config_text(official: Mapping[str, Any], folder: str | Path) -> str:
    """Return the text of :func:`config_from_llava`, with what it leaves to choose."""
    text = config_from_llava(official, folder).pretty_text
    if template_of(official, Path(folder)) is not None:
        return text
    return (
        "# chat_template: neither config.json nor the tokenizer tells with which one\n"
        f"# these weights were trained; '{_UNKNOWN_TEMPLATE}' is LLaVA-1.5's. "
        f"Choose it.\n{text}"
    )


def template_of(official: Mapping[str, Any], folder: Path) -> str | dict | None:
    """Return the chat template that official weights were trained with.

    The official code writes it nowhere; what tells is a projector of stage 1, the
    marks that the tokenizer knows, the architecture, and the name of the model that
    training began from.

    Args:
        official (Mapping): content of ``config.json``.
        folder (Path): of the weights.

    Returns:
        str | dict | None: our template, None where nothing tells.
    """
    names = read_names(folder)
    if (folder / "mm_projector.bin").is_file() and not any(
        "layers." in name for name in names
    ):
        return "plain"
    files = (folder / f"{stem}.json" for stem in _TOKENIZER_FILES)
    marks = "".join(file.read_text("utf-8") for file in files if file.is_file())
    kind = str(official.get("model_type"))
    base = os.path.basename(str(official.get("_name_or_path") or "").rstrip("/"))
    if "<|start_header_id|>" in marks:
        dual = any("spatial_embed." in name for name in names)
        return dict(_INF_TEMPLATE) if dual else "llama_3"
    if "<|im_start|>" in marks:
        return "qwen" if "qwen" in kind else "chatml_direct"
    for word, template in _TEMPLATES.items():
        if word in kind or word in base.lower():
            return template
    return "llava_llama_2" if "[INST]" in marks else None


def _connector(kind: str, chosen: dict) -> dict:
    """Return the config of a projector by its official name."""
    if kind == "linear":
        return dict(type="LinearConnector", **chosen)
    depth = kind.removeprefix("mlp").removesuffix("x_gelu")
    if not depth.isdigit():
        raise ValueError(
            f"config.json: mm_projector_type={kind!r}, expected 'linear' or "
            "'mlp<depth>x_gelu'."
        )
    return dict(type="MLPConnector", depth=int(depth), act="gelu", **chosen)


def _text_config(official: Mapping[str, Any]) -> dict:
    """Return the language model's own fields of an official config."""
    known = str(official.get("model_type", "llava_llama")).removeprefix("llava_")
    known = {"qwen": "qwen2", "llava": "llama"}.get(known, known)
    blank = make_config(dict(model_type=known), "language_model")
    own = {k: v for k, v in official.items() if k in blank.to_dict()}
    own.pop("model_type", None)
    return plain_fields(make_config(dict(own, model_type=known), "language_model"))


def _known_tower(official: Mapping[str, Any]) -> dict:
    """Return the config of a tower by its name: a folder, or one that we ship."""
    from mmvlm.config.find import config_roots

    path = str(official.get("mm_vision_tower") or "")
    name = os.path.basename(path.rstrip("/"))
    for root in config_roots():
        for file in sorted(root.glob("_base_/models/*.py")):
            tower = Config.fromfile(file).model.get("vision_encoder") or {}
            if tower.get("type") == "HFVisionEncoder" and _tower_name(tower) == name:
                return dict(tower.to_dict(), name_or_path=path)
    found = Path(path).expanduser() / "config.json"
    if not found.is_file():
        raise ValueError(
            f"config.json: mm_vision_tower={path!r} is neither a folder nor a tower "
            "of the shipped configs; give --config."
        )
    config = read_json(found)
    config = config.get("vision_config") or config
    return dict(type="HFVisionEncoder", name_or_path=path, config=config)


def official_config(
    model_cfg: Mapping[str, Any], view: Mapping[str, Any] | None, **more: Any
) -> dict:
    """Return the ``config.json`` that official loaders open.

    Args:
        model_cfg (Mapping): our ``model`` config.
        view (Mapping | None): the view transform of the pipeline.
        **more: fields on top (``mm_vision_tower``, ``tokenizer_model_max_length``).

    Raises:
        ValueError: for parts that these loaders have no place for.
    """
    from mmvlm.registry import MODELS

    check_folder(model_cfg["vision_encoder"], view)
    found = facts(model_cfg, view)
    num_layers = found.pop("num_layers")
    layers = [n - num_layers - 1 for n in found["mm_vision_select_layer"]]
    words = f"list{'/'.join(map(str, layers))}"  # as MMFuser writes several
    scales = found.pop("s2_scales")
    dual = {
        key: value
        for key in _DUAL
        if (value := found.pop(f"dual_perspective.{key}", _DUAL[key])) != _DUAL[key]
    }
    with torch.device("meta"):
        lm = MODELS.build(plain_model_cfg(model_cfg)).language_model.config
    kind = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen"}.get(lm.model_type)
    if kind is None:
        raise ValueError(
            f"model.language_model is a '{lm.model_type}': the official code has "
            "classes for llama, mistral and qwen2."
        )
    fields = {k: v for k, v in lm.to_dict().items() if not k.startswith("_")}
    fields.pop("rope_parameters", None)
    if scaling := found["rope_scaling"]:
        found["rope_scaling"] = dict(scaling, type=scaling["rope_type"])
    fields.update(
        found, mm_vision_select_layer=layers[0] if len(layers) == 1 else words
    )
    if scales:
        fields.update(s2=True, s2_scales=",".join(map(str, scales)))
    if dual:
        fields["dual_perspective"] = dual
        print_log(
            f"model.connector.fuser: INF-LLaVA's code has other settings than {dual} "
            "fixed and must be changed before it opens these weights.",
            logger="current",
            level=30,
        )
    rule = (model_cfg.get("train_parts") or {}).get("vision_encoder", False)
    fields.update(
        model_type=f"llava_{kind.lower()}",
        architectures=[f"Llava{kind}ForCausalLM"],
        use_mm_proj=True,
        mm_use_im_patch_token=False,
        tokenizer_padding_side="right",
        unfreeze_mm_vision_tower=bool(rule),
    )
    fields.setdefault("mm_patch_merge_type", "flat")
    return {**fields, **{k: v for k, v in more.items() if v is not None}}


def check_folder(tower: Mapping[str, Any], view: Mapping[str, Any] | None) -> None:
    """Refuse encoders and views that a ``config.json`` of LLaVA cannot say.

    Raises:
        ValueError: naming what it is, and what takes its weights.
    """
    from mmvlm.registry import MODELS

    kinds, strays = [], []
    while tower:
        kind = tower["type"]
        kinds.append((MODELS.get(kind) if isinstance(kind, str) else kind).__name__)
        tower = tower.get("encoder")
    if kinds not in (["HFVisionEncoder"], ["S2VisionEncoder", "HFVisionEncoder"]):
        strays.append(f"vision_encoder {' around '.join(kinds)}")
    if view is not None and view["type"] not in (*_ASPECTS, _DUAL_VIEWS):
        strays.append(f"view transform {view['type']}")
    if strays:
        raise ValueError(
            f"the official config.json has no word for {' and '.join(strays)}, only "
            "for HFVisionEncoder, alone or in S2VisionEncoder, and for "
            f"{[*_ASPECTS, _DUAL_VIEWS]}. Write the weights into one file: to_llava.py "
            "CHECKPOINT OUT.bin."
        )
