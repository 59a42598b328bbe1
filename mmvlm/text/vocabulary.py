"""Whether the ids of a tokenizer fit the rows of a language model."""

from __future__ import annotations

from typing import Any

from .tokenizers import add_special_tokens

#: Rows beyond the tokenizer's ids that padding of a table explains, a share of them.
_PADDING = 0.2


def add_new_tokens(tokenizer: Any, new_tokens: Any) -> None:
    """Give a tokenizer the tokens that its language model has new rows for.

    Args:
        tokenizer (Any): a transformers tokenizer, changed in place.
        new_tokens (NewTokens | None): of the language model.
    """
    if new_tokens is not None:
        add_special_tokens(tokenizer, new_tokens.names)


def check_vocabulary(tokenizer: Any, language_model: Any) -> None:
    """Refuse a tokenizer with ids that the language model has no rows for.

    Args:
        tokenizer (Any): a transformers tokenizer that has the new tokens.
        language_model (Any): with ``vocab_size``, rows of the embedding table, and
            perhaps ``new_tokens`` and ``first_new_id``.

    Raises:
        ValueError: naming both numbers and the ``new_tokens`` that are lacking; also
            when new tokens have other ids than their rows.
    """
    rows = getattr(language_model, "vocab_size", None)
    if rows is None or not hasattr(tokenizer, "get_vocab"):
        return
    count = highest_id(tokenizer) + 1
    new = getattr(language_model, "new_tokens", None)
    first = rows if new is None else language_model.first_new_id
    if count > rows:
        raise ValueError(
            f"the tokenizer has ids up to {count - 1}, model.language_model has {rows} "
            "rows of embeddings. If it is the tokenizer of this model with tokens "
            "added, set model.language_model.new_tokens=dict(tokens="
            f"{_listed(tokens_from(tokenizer, first))}); else give the model its own "
            "tokenizer."
        )
    if new is not None:
        _check_ids(tokenizer, new, first, rows)


def tokens_from(tokenizer: Any, first: int) -> list[str]:
    """Return the tokens with ids from ``first`` on, by id."""
    found = {n: token for token, n in tokenizer.get_vocab().items() if n >= first}
    return [found[number] for number in sorted(found)]


def _listed(tokens: list, most: int = 50) -> str:
    if len(tokens) <= most:
        return str(tokens)
    return f"[{tokens[0]!r}, ..., {tokens[-1]!r}] ({len(tokens)} of them)"


def _check_ids(tokenizer: Any, new: Any, first: int, rows: int) -> None:
    """Refuse new tokens whose ids are not those of their rows."""
    key = "model.language_model.new_tokens"
    if not new.names:  # rows of tokens that the tokenizer's config adds
        if new.train is not None and highest_id(tokenizer) != rows - 1:
            raise ValueError(
                f"new rows learn from {first} to {rows - 1}, but the tokenizer's last "
                f"id is {highest_id(tokenizer)}: the table was longer than the "
                f"vocabulary. Name the new tokens in {key}=dict(tokens=[...])."
            )
        return
    ids = list(tokenizer.convert_tokens_to_ids(new.names))
    if ids == list(range(first, first + len(ids))):
        return
    cure = "list them in the tokenizer's order, without those that it had before"
    if ids == list(range(ids[0], ids[0] + len(ids))):
        cure = f"set {key}.first_id={ids[0]} if its table is longer than its vocabulary"
    raise ValueError(
        f"{key} has rows for ids {first} to {first + len(ids) - 1}, but the tokenizer "
        f"gives {_listed(list(new.names), 8)} the ids {_listed(ids, 8)}; {cure}."
    )


def highest_id(tokenizer: Any) -> int:
    """Return the largest id of a tokenizer, added tokens included."""
    return max([len(tokenizer) - 1, *tokenizer.get_vocab().values()])


def foreign_vocabulary(tokenizer: Any, rows: int, eos_ids: Any) -> str | None:
    """Return why a tokenizer is hardly that of a language model, or None.

    Args:
        tokenizer (Any): a transformers tokenizer.
        rows (int): of the embedding table.
        eos_ids (int | list[int] | None): end tokens of the model's config.
    """
    count = highest_id(tokenizer) + 1
    if rows - count > _PADDING * rows:
        return f"it has {count} ids, the language model {rows} rows"
    known = [eos_ids] if isinstance(eos_ids, int) else list(eos_ids or ())
    if known and tokenizer.eos_token_id is not None and max(known) >= count:
        return f"the language model ends with id {known}, beyond its {count} ids"
    return None
