"""Keys of older configs, read under their new names."""

from __future__ import annotations

from typing import Any

_EMU_HEAD = "VisualRegressionHead"
#: (type that has it, key, value) as before -> key and value now; None: any.
RENAMED = {
    ("EncodeConversation", "count_pictures", None): ("count_images", None),
    ("VLMProcessor", "count_pictures", None): ("count_images", None),
    ("MMMUDataset", "pictures", None): ("images", None),
    ("Kosmos2GRITDataset", "size_from", "picture"): ("size_from", "image"),
}


def rename_old_keys(cfg: Any) -> list[str]:
    """Rewrite keys of older versions in place.

    Args:
        cfg (dict): a merged config.

    Returns:
        list[str]: one line for each rewritten key, which names the new one.
    """
    lines: list[str] = []
    model = cfg.get("model")
    if isinstance(model, dict):
        _read_emu(model, lines)
        lines += _new_tokens(model)
    _read_renamed(cfg, "", lines)
    return lines


def _read_renamed(value: Any, path: str, lines: list[str]) -> None:
    """Rename the keys of parts whose argument has another name now."""
    if isinstance(value, dict):
        own = str(dict.get(value, "type"))  # a lazy config has an object here
        for (kind, key, old), (name, new) in RENAMED.items():
            if own == kind and key in value and old in (None, value[key]):
                before = value.pop(key)
                value[name] = now = before if new is None else new
                lines.append(f"{path}{key}={before!r} is read as {name}={now!r}.")
        for key in value:
            _read_renamed(dict.__getitem__(value, key), f"{path}{key}.", lines)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _read_renamed(item, f"{path}{number}.", lines)


def _new_tokens(model: dict) -> list[str]:
    """Say what the language model itself reads as before."""
    lines, text = [], model.get("language_model")
    if isinstance(text, dict) and text.get("num_new_tokens"):
        lines.append(
            "model.language_model.num_new_tokens is read as rows without names; name "
            "the tokens in model.language_model.new_tokens=dict(tokens=[...], "
            "train=None), and no longer in tokenizer.additional_special_tokens."
        )
    rule = (model.get("train_parts") or {}).get("language_model")
    if isinstance(rule, dict) and "new_rows" in (rule.get("only") or ()):
        lines.append(
            "model.train_parts.language_model.only=['new_rows'] is read as "
            "model.language_model.new_tokens=dict(tokens=[...], train='input_rows')."
        )
    return lines


def _read_emu(model: dict, lines: list[str]) -> None:
    """``EmuVLM`` was a class of its own; its head is one of the model's heads."""
    heads = model.get("heads") or {}
    if not isinstance(heads, dict):
        return  # the check says what it should be
    own = [
        name
        for name, one in heads.items()
        if isinstance(one, dict) and one.get("type") == _EMU_HEAD
    ]
    was_emu = model.get("type") == "EmuVLM"
    # Of another system these keys are mistakes, which the check names.
    if not was_emu and not (own and {"head", "regression_weight"} & set(model)):
        return
    model["type"] = "VisionLanguageModel"
    head = model.pop("head", None) or {}
    if "regression_weight" in model:
        head["weight"] = model.pop("regression_weight")
    name = own[0] if own else "head"
    head = {"type": _EMU_HEAD, **heads.get(name, {}), **head}
    model["heads"] = type(model)({**heads, name: head})
    lines.append(
        "model.type='EmuVLM' with model.head and model.regression_weight is read as "
        "model.type='VisionLanguageModel' with "
        f"model.heads=dict({name}=dict(type='{_EMU_HEAD}', weight=...))."
    )
