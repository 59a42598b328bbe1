"""Whether the ids of a tokenizer fit the rows of a language model."""

from __future__ import annotations

from typing import Any

#: Rows beyond the tokenizer's ids that padding of a table explains, a share of them.
_PADDING = 0.2


def check_vocabulary(tokenizer: Any, language_model: Any) -> None:
    """Refuse a tokenizer with ids that the language model has no rows for.

    Args:
        tokenizer (Any): a transformers tokenizer.
        language_model (Any): with ``vocab_size``, rows of the embedding table.

    Raises:
        ValueError: naming both numbers and ``num_new_tokens``; also when ``new_rows``
            are to learn and new tokens have rows of the old table.

    """
    rows = getattr(language_model, "vocab_size", None)
    if rows is None or not hasattr(tokenizer, "get_vocab"):
        return
    count = highest_id(tokenizer) + 1
    if count > rows:
        given = getattr(language_model, "num_new_tokens", 0)
        raise ValueError(
            f"the tokenizer has ids up to {count - 1}, model.language_model has {rows} "
            "rows of embeddings. If it is the tokenizer of this model with tokens "
            "added, set model.language_model.num_new_tokens="
            f"{count - rows + given}; else give the model its own tokenizer."
        )
    _check_new_rows(tokenizer, language_model, count)


def _check_new_rows(tokenizer: Any, language_model: Any, count: int) -> None:
    """Refuse to train ``new_rows`` where a padded table has rows for new tokens."""
    if not hasattr(language_model, "train_new_rows"):
        return
    # A tokenizer from a folder does not say which of its tokens are new.
    first = min([*getattr(tokenizer, "mmvlm_new_ids", ()), count - 1])
    for name, module in language_model.named_modules():
        frozen = getattr(module, "frozen_rows", 0)
        if first < frozen:
            raise ValueError(
                f"'new_rows' trains the rows from {frozen} on, but the tokenizer has "
                f"new tokens from id {first} on: the table was longer than the "
                "vocabulary. Take num_new_tokens away if no id needs it, and train "
                f"'{name.rpartition('.')[2]}' in place of 'new_rows'."
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
