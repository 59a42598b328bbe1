"""Helpers of the text tests: names of templates, kinds of tokenizers."""

from __future__ import annotations

from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
from mmvlm.text.tiny_tokenizer import train_tiny_tokenizer

CHATML_JINJA = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOKENIZER_KINDS = (
    "bytes",
    "bpe",
    "slow",
    "slow-legacy",
    "fast",
    "fast-legacy",
)


def template_names():
    """Every registered name, one per template."""
    CHAT_TEMPLATES.import_from_location()
    seen = {}
    for name, built in CHAT_TEMPLATES.module_dict.items():
        seen.setdefault(id(built), name)
    return sorted(seen.values())


def needed_tokens(name):
    """Special tokens that a tokenizer must hold for the template ``name``."""
    if name == "tokenizer":
        return ["<|im_start|>", "<|im_end|>"]
    return list(CHAT_TEMPLATES.build(dict(type=name)).special_tokens)


def build_tokenizer(kind, special_tokens, goldens):
    if kind == "bytes":
        return TOKENIZERS.build(
            dict(type="TinyTokenizer", words=["red"], special_tokens=special_tokens)
        )
    if kind == "bpe":
        texts = ["a red dog\n\nassistant\n\nthe end.\n", "  two  spaces\n\n"] * 20
        return train_tiny_tokenizer(texts, 400, special_tokens)
    return TOKENIZERS.build(
        dict(
            type="HFTokenizer",
            name_or_path=str(goldens / "llava_tokenizer"),
            use_fast=kind.startswith("fast"),
            legacy=kind.endswith("legacy"),
            pad="unk",
            additional_special_tokens=special_tokens,
        )
    )


def spell(tokenizer, ids):
    """Spell ids as text, dummy spaces included, without the tokenizer's decoder."""
    tokens = tokenizer.convert_ids_to_tokens([int(i) for i in ids])
    if "ByteLevel" in str(getattr(tokenizer, "backend_tokenizer", None) or ""):
        return tokenizer.decode(ids, skip_special_tokens=False)
    data = b""
    for token in tokens:
        if token.startswith("<0x") and len(token) == 6:
            data += bytes([int(token[3:5], 16)])
        elif token in tokenizer.get_added_vocab():
            data += token.encode()
        else:
            data += token.replace("\u2581", " ").encode()
    return data.decode()
