"""Check that the rows of a language model and a run's ids are the same tokens."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmvlm.config.work_dir import MODEL, TOKENIZER


def check_token_ids(tokenizer: Any, checkpoint: str | os.PathLike) -> None:
    """Compare a run's tokenizer with the one that lies beside a checkpoint.

    Tables of the same size fit whatever their rows stand for, so that shapes do not
    tell. Added tokens may differ, as a codec brings its own to each run; trained rows
    that now stand for others are warned of.

    Args:
        tokenizer (PreTrainedTokenizerBase): of the run.
        checkpoint (str | PathLike): a file; nothing is compared where its folder
            holds no tokenizer, or one that is not its run's (see ``model.json``).

    Raises:
        ValueError: when a token of the vocabulary has another id.
    """
    folder = Path(checkpoint).parent / TOKENIZER
    if not folder.is_dir() or not _is_faithful(folder):
        return
    try:
        saved = type(tokenizer).from_pretrained(str(folder))
    except Exception as error:  # whatever the class of another library raises
        print_log(
            f"'{folder}' cannot be compared with the run's {type(tokenizer).__name__} "
            f"({type(error).__name__}: {str(error).strip():.200}).",
            logger="current",
            level=logging.WARNING,
        )
        return
    own, trained = tokenizer.get_vocab(), _ids(saved)
    moved = [token for token, index in trained.items() if own.get(token) != index]
    if moved:
        token = min(moved, key=trained.get)
        raise ValueError(
            f"checkpoint '{checkpoint}': its language model learnt with the tokenizer "
            f"in '{folder}', of whose {len(trained)} tokens {len(moved)} have other "
            f"ids in this run's (the first: {token!r}, {trained[token]} and "
            f"{own.get(token)}). Give the run that tokenizer "
            f"(name_or_path='{folder}'), or weights that fit its own."
        )
    before = {n: str(token) for n, token in saved.added_tokens_decoder.items()}
    names = {index: token for token, index in own.items()}
    renamed = [n for n in sorted(before) if names.get(n, before[n]) != before[n]]
    if renamed:
        first = renamed[0]
        print_log(
            f"'{checkpoint}': {len(renamed)} rows of added tokens now stand for others "
            f"(the first: {before[first]!r} is {names[first]!r} here).",
            logger="current",
            level=logging.WARNING,
        )


def _is_faithful(folder: Path) -> bool:
    """Whether the run that wrote a tokenizer read the same one again."""
    facts = folder.with_name(MODEL)
    if not facts.is_file():
        return True
    return folder.name in json.loads(facts.read_text()).get("tokenizers", {}).values()


def _ids(tokenizer: Any) -> dict[str, int]:
    added = set(tokenizer.added_tokens_decoder)
    return {t: i for t, i in tokenizer.get_vocab().items() if i not in added}
