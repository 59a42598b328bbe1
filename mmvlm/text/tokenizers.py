"""Tokenizers of transformers, by path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mmvlm.registry import TOKENIZERS
from mmvlm.utils.files import pretrained_source


@TOKENIZERS.register_module(name="HFTokenizer")
def hf_tokenizer(
    name_or_path: str,
    *,
    use_fast: bool = True,
    padding_side: str = "right",
    legacy: bool | None = None,
    pad: str | None = None,
    additional_special_tokens: Sequence[str] = (),
    codec: dict | None = None,
    eos_token: str | None = None,
    chat_template: str | None = None,
    model_max_length: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Load a transformers tokenizer.

    Args:
        name_or_path (str): a folder, a name on the hub (or in its cache), or a GGUF
            file (see :func:`mmvlm.utils.files.pretrained_source`).
        use_fast (bool): the tokenizers-backed class; False for the Python one.
        padding_side (str): ``right`` or ``left``.
        legacy (bool | None): True puts a space before text behind special tokens,
            as old transformers did for Llama; None keeps what the folder says.
        pad (str | None): what pads: ``unk`` (LLaVA), ``eos``, or a token to add.
        additional_special_tokens (Sequence[str]): special tokens to add.
        codec (dict | None): of ``CODECS``; its special tokens are added too.
        eos_token (str | None): another EOS, added if unknown.
        chat_template (str | None): Jinja text in place of the tokenizer's own.
        model_max_length (int | None): None keeps the tokenizer's own.
        revision (str | None): branch, tag or commit on the hub.
        trust_remote_code (bool): allow the folder's own tokenizer class.

    Returns:
        PreTrainedTokenizerBase: the tokenizer.

    Raises:
        FileNotFoundError: when no tokenizer can be had from ``name_or_path``.
        ValueError: for ``pad='unk'`` without such a token, and similar.
    """
    from transformers import AutoTokenizer

    if padding_side not in ("right", "left"):
        raise ValueError(
            f"tokenizer.padding_side='{padding_side}', expected 'right' or 'left'."
        )
    path, file = pretrained_source(name_or_path)
    local = path.startswith((".", os.sep)) or os.path.isdir(path)
    if local and not os.path.isdir(path):
        raise FileNotFoundError(
            f"tokenizer.name_or_path='{name_or_path}': no such folder "
            f"('{os.path.abspath(path)}')."
        )
    options = dict(legacy=legacy, model_max_length=model_max_length, revision=revision)
    file |= {key: value for key, value in options.items() if value is not None}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path,
            use_fast=use_fast,
            padding_side=padding_side,
            trust_remote_code=trust_remote_code,
            **file,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        where = "folder" if local else "hub name, neither reachable nor in the cache"
        raise FileNotFoundError(
            f"tokenizer.name_or_path='{name_or_path}' ({where}): no tokenizer could "
            f"be loaded: {reason} Give the folder that holds tokenizer.json or "
            "tokenizer.model, or fetch it first on a machine with network "
            f"(huggingface-cli download {name_or_path})."
        ) from error
    add_special_tokens(tokenizer, [*additional_special_tokens, *codec_tokens(codec)])
    if eos_token is not None:
        tokenizer.add_special_tokens({"eos_token": eos_token})
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    _set_pad(tokenizer, pad)
    return tokenizer


def add_special_tokens(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Add special tokens that answers may say (see :func:`frame_tokens`), in place."""
    if tokens:
        tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.mmvlm_markup = (*getattr(tokenizer, "mmvlm_markup", ()), *tokens)


def codec_tokens(codec: dict | None) -> tuple[str, ...]:
    """Return the special tokens of a grounding codec."""
    from mmvlm.registry import CODECS

    return () if codec is None else CODECS.build(dict(codec)).special_tokens


def _set_pad(tokenizer: Any, pad: str | None) -> None:
    if pad is None:
        return
    if pad not in ("unk", "eos"):
        tokenizer.add_special_tokens({"pad_token": pad})
        return
    token = getattr(tokenizer, f"{pad}_token")
    if token is None:
        raise ValueError(
            f"tokenizer.pad='{pad}': {type(tokenizer).__name__} has no {pad}_token. "
            "Use pad='eos' or name a token, such as pad='<pad>'."
        )
    tokenizer.pad_token = token
