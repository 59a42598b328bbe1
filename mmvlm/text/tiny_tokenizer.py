"""Small byte-level tokenizers, made or trained in code."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from mmvlm.registry import TOKENIZERS

from .tokenizers import codec_tokens

_BOS, _EOS, _PAD, _UNK = "<s>", "</s>", "<pad>", "<unk>"


@TOKENIZERS.register_module(name="TinyTokenizer")
def tiny_tokenizer(
    words: Iterable[str] = (),
    special_tokens: Sequence[str] = (),
    *,
    add_bos: bool = True,
    chat_template: str | None = None,
    codec: dict | None = None,
) -> Any:
    """Make a byte-level tokenizer in code: no file, any text, always the same.

    Ids: ``<pad>``, ``<s>``, ``</s>``, ``<unk>``, the special tokens, 256 bytes, and
    what the words need. A word is one token, alone and behind a space.

    Args:
        words (Iterable[str]): words that shall be one token.
        special_tokens (Sequence[str]): more special tokens.
        add_bos (bool): put ``<s>`` before every text, as Llama does.
        chat_template (str | None): Jinja text for the tokenizer's own template.
        codec (dict | None): config in ``CODECS``; its special tokens come behind
            ``special_tokens``.

    Returns:
        PreTrainedTokenizerFast: the tokenizer.

    Raises:
        ValueError: for a word that byte-level splitting never keeps whole.
    """
    from tokenizers import models

    specials = _specials([*special_tokens, *codec_tokens(codec)])
    alphabet = _alphabet()
    vocab = {token: number for number, token in enumerate([*specials, *alphabet])}
    merges: list[tuple[str, str]] = []
    ranks: dict[tuple[str, str], int] = {}
    splitter = _splitter()
    for word in dict.fromkeys(words):
        for form in (word, f" {word}"):
            pieces = splitter.pre_tokenize_str(form)
            if len(pieces) != 1:
                raise ValueError(
                    f"TinyTokenizer: {form!r} cannot be one token: it is split into "
                    f"{[piece for piece, _ in pieces]} before merging."
                )
            symbols = _merge(list(pieces[0][0]), ranks)
            while len(symbols) > 1:
                pair = (symbols[0], symbols[1])
                ranks[pair] = len(merges)
                merges.append(pair)
                vocab.setdefault("".join(pair), len(vocab))
                symbols = _merge(symbols, ranks)
    model = models.BPE(vocab=vocab, merges=merges, unk_token=_UNK)
    tokenizer = _wrap(model, specials, add_bos, chat_template)
    tokenizer.mmvlm_markup = tuple(specials)
    return tokenizer


def train_tiny_tokenizer(
    texts: Iterable[str],
    vocab_size: int = 1024,
    special_tokens: Sequence[str] = (),
    *,
    save_dir: str | os.PathLike | None = None,
    add_bos: bool = True,
    chat_template: str | None = None,
) -> Any:
    """Train a byte-level BPE tokenizer; the same texts give the same tokenizer.

    Args:
        texts (Iterable[str]): what to train on.
        vocab_size (int): ids in all, special tokens and 256 bytes included.
        special_tokens (Sequence[str]): besides pad, bos, eos and unk.
        save_dir (str | None): folder to save to, for ``HFTokenizer``.
        add_bos (bool): put ``<s>`` before every text.
        chat_template (str | None): Jinja text for the tokenizer's own template.

    Returns:
        PreTrainedTokenizerFast: the tokenizer.

    Raises:
        ValueError: when ``vocab_size`` has no room for bytes and special tokens.
    """
    from tokenizers import Tokenizer, models, trainers

    specials = _specials(special_tokens)
    least = len(specials) + 256
    if vocab_size < least:
        raise ValueError(
            f"vocab_size={vocab_size} has no room for {len(specials)} special tokens "
            f"and 256 bytes; give at least {least}."
        )
    learner = Tokenizer(models.BPE(unk_token=_UNK))
    learner.pre_tokenizer = _splitter()
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=specials,
            initial_alphabet=_alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = _wrap(learner.model, specials, add_bos, chat_template)
    if save_dir is not None:
        tokenizer.save_pretrained(save_dir)
    return tokenizer


def _specials(special_tokens: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([_PAD, _BOS, _EOS, _UNK, *special_tokens]))


def _alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _splitter() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _merge(symbols: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Apply known merges, lowest rank first, as BPE does."""
    while True:
        pairs = [
            (ranks[pair], at)
            for at, pair in enumerate(pairwise(symbols))
            if pair in ranks
        ]
        if not pairs:
            return symbols
        _, at = min(pairs)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]


def _wrap(model: Any, specials: list[str], add_bos: bool, template: str | None) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(model)
    backend.pre_tokenizer = _splitter()
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in specials]
    )
    if add_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{_BOS} $A",
            pair=f"{_BOS} $A {_BOS} $B",
            special_tokens=[(_BOS, backend.token_to_id(_BOS))],
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=_BOS,
        eos_token=_EOS,
        pad_token=_PAD,
        unk_token=_UNK,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer
