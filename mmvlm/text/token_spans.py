"""Token ids of a text, and at which token each of its characters starts.

One adapter for three kinds of tokenizers: byte-level (token lengths are known
from the vocabulary), fast (offsets), slow sentencepiece (pieces are laid along
the text).
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

_SPACE = "\u2581"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
#: Texts behind which a continuation is encoded when a tokenizer prefixes texts.
_ANCHORS = ("\n", "0", ".", "a")
#: So many texts are worth the threads of one batched call. Single samples stay
#: below: threads and forked data workers do not mix.
_BATCH = 16


class TokenSpans:
    """Encode texts and find the tokens at character positions.

    Args:
        tokenizer (Any): a transformers tokenizer, slow or fast.
    """

    def __init__(self, tokenizer: Any) -> None:
        # A weak reference: the cache below must not keep tokenizers alive.
        self._ref = weakref.ref(tokenizer)
        self.is_fast = bool(getattr(tokenizer, "is_fast", False))
        self.prefix_ids = self._leading_ids(tokenizer)
        self._byte_lengths = _byte_level_lengths(tokenizer)

    @property
    def is_byte_level(self) -> bool:
        """Whether a text's ids do not depend on a space put before it."""
        return self._byte_lengths is not None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self._ref()

    @staticmethod
    def _leading_ids(tokenizer: Any) -> np.ndarray:
        """Ids that the tokenizer puts before every text (BOS), often none."""
        plain = tokenizer.encode("a", add_special_tokens=False)
        full = tokenizer.encode("a", add_special_tokens=True)
        for start in range(len(full) - len(plain) + 1):
            if full[start : start + len(plain)] == plain:
                return np.asarray(full[:start], dtype=np.int64)
        raise ValueError(
            f"{type(tokenizer).__name__} encodes a text differently with and without "
            f"special tokens ({full} against {plain}); it cannot be used here."
        )

    def ids(self, text: str) -> np.ndarray:
        """Return the ids of a text, without leading special tokens."""
        return self.encode([text], [()])[0][0]

    def encode(
        self,
        texts: Sequence[str],
        bounds: Sequence[Sequence[float]],
        breaks: Sequence[Sequence[int]] | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Encode texts and map character positions to token positions.

        No token lies across a bound: where one would (a line break of the
        template and one of the answer as one token), the text is cut there and both
        sides are encoded alone, as a prompt and its continuation are at
        inference.

        Args:
            texts (Sequence[str]): texts.
            bounds (Sequence[Sequence[float]]): per text, ascending positions; one
                and a half asks for the token that holds character 1, uncut.
            breaks (Sequence[Sequence[int]] | None): per text, positions where it is
                cut and both sides are encoded alone in any case.

        Returns:
            list[tuple[np.ndarray, np.ndarray]]: per text its ids (T,) int64 and
            per bound the index of the first token that starts there or behind (that
            holds the character).
        """
        if not texts:
            return []
        if self.is_fast:
            located = self._encode_fast(texts, bounds)
        else:
            located = [
                self._encode_slow(text, cuts)
                for text, cuts in zip(texts, bounds, strict=True)
            ]
        return [
            (ids, index) if clean and not apart else self._encode_cut(text, cuts, apart)
            for (ids, index, clean), text, cuts, apart in zip(
                located, texts, bounds, breaks or [()] * len(texts), strict=True
            )
        ]

    # Fast tokenizers --------------------------------------------------------

    def _encode_fast(self, texts: Sequence[str], bounds: Sequence) -> list[tuple]:
        backend = self.tokenizer.backend_tokenizer
        if backend.padding is not None:
            backend.no_padding()
        if backend.truncation is not None:
            backend.no_truncation()
        if len(texts) < _BATCH:
            encodings = [backend.encode(t, add_special_tokens=False) for t in texts]
        else:
            encodings = self._encode_many(texts, bounds)
        return [
            self._locate_fast(encoding, text, cuts)
            for encoding, text, cuts in zip(encodings, texts, bounds, strict=True)
        ]

    def _encode_many(self, texts: Sequence[str], bounds: Sequence) -> list:
        """Encode in two calls: offsets cost a third of the time and few need them."""
        backend = self.tokenizer.backend_tokenizer
        encodings: list = [None] * len(texts)
        located = [
            not self.is_byte_level and not _is_whole(text, cuts)
            for text, cuts in zip(texts, bounds, strict=True)
        ]
        for wanted, call in (
            (True, backend.encode_batch),
            (False, backend.encode_batch_fast),
        ):
            rows = [n for n, needs in enumerate(located) if needs is wanted]
            made = call([texts[n] for n in rows], add_special_tokens=False)
            for row, encoding in zip(rows, made, strict=True):
                encodings[row] = encoding
        return encodings

    def _locate_fast(self, encoding: Any, text: str, cuts: Sequence[int]) -> tuple:
        ids = np.asarray(encoding.ids, dtype=np.int64)
        if _is_whole(text, cuts):
            return ids, _whole(ids, cuts), True
        if self._byte_lengths is not None:
            found = _locate_bytes(self._byte_lengths[ids], text, cuts)
            if found is not None:
                return ids, *found
            backend = self.tokenizer.backend_tokenizer
            encoding = backend.encode(text, add_special_tokens=False)
        spans = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return ids, *_locate(spans[:, 0], spans[:, 1], cuts)

    # Slow tokenizers --------------------------------------------------------

    def _encode_slow(self, text: str, cuts: Sequence[int]) -> tuple:
        tokenizer = self.tokenizer
        ids = np.asarray(
            tokenizer.encode(text, add_special_tokens=False), dtype=np.int64
        )
        if _is_whole(text, cuts):
            return ids, _whole(ids, cuts), True
        if self._byte_lengths is not None:
            found = _locate_bytes(self._byte_lengths[ids], text, cuts)
            if found is not None:
                return ids, *found
        spans = _lay_along(tokenizer.convert_ids_to_tokens(ids.tolist()), text)
        if spans is None:
            return ids, np.zeros(0, dtype=np.int64), False
        starts, ends, positions = spans
        wanted = [positions[int(cut)] + cut % 1 for cut in cuts]
        return ids, *_locate(starts, ends, wanted)

    # A token across a bound -------------------------------------------------

    def _encode_cut(
        self, text: str, cuts: Sequence[float], breaks: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode the text between all bounds and breaks alone."""
        cuts = [int(cut) for cut in cuts]
        edges = sorted({0, len(text), *cuts, *breaks})
        at = {0: 0}
        parts: list[np.ndarray] = []
        for left, right in pairwise(edges):
            piece = text[left:right]
            parts.append(self.continuation(piece) if left else self.ids(piece))
            at[right] = at[left] + len(parts[-1])
        ids = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        return ids, np.array([at[cut] for cut in cuts], dtype=np.int64)

    def continuation(self, text: str) -> np.ndarray:
        """Return the ids of a text that goes on from another one.

        Tokenizers that put a space before every text must not put one here.
        """
        plain = self.ids(text)
        if self._byte_lengths is not None:
            return plain
        for anchor in _ANCHORS:
            alone = self.ids(anchor)
            joint = self.ids(anchor + text)
            if np.array_equal(joint[: len(alone)], alone):
                return joint[len(alone) :]
        return plain


_SPANS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def spans_of(tokenizer: Any) -> TokenSpans:
    """Return the adapter of a tokenizer, made once per vocabulary size."""
    known = _SPANS.get(tokenizer)
    if known is None or known[0] != len(tokenizer):
        known = _SPANS[tokenizer] = (len(tokenizer), TokenSpans(tokenizer))
    return known[1]


def _byte_level_lengths(tokenizer: Any) -> np.ndarray | None:
    """Bytes per id of a byte-level vocabulary; None for another kind."""
    if getattr(tokenizer, "is_fast", False):
        state = str(tokenizer.backend_tokenizer.decoder)
        byte_level = "ByteLevel" in state
    else:
        byte_level = isinstance(getattr(tokenizer, "byte_encoder", None), dict)
    if not byte_level:
        return None
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    vocab = tokenizer.get_vocab()
    lengths = np.zeros(max(vocab.values()) + 1, dtype=np.int64)
    for token, number in vocab.items():
        lengths[number] = len(token.encode()) if token in added else len(token)
    return lengths


def _is_whole(text: str, cuts: Sequence[int]) -> bool:
    """Whether bounds lie at the ends of the text only."""
    return all(cut == 0 or cut == len(text) for cut in cuts)


def _whole(ids: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    return np.array([len(ids) if cut else 0 for cut in cuts], dtype=np.int64)


def _locate_bytes(
    lengths: np.ndarray, text: str, cuts: Sequence[float]
) -> tuple[np.ndarray, bool] | None:
    """Locate bounds from byte lengths; None when the text was normalised."""
    total, wanted = len(text), cuts
    if not text.isascii():
        total = len(text.encode())
        wanted = [len(text[: int(cut)].encode()) + cut % 1 for cut in cuts]
    ends = lengths.cumsum()
    if total != (ends[-1] if len(ends) else 0):
        return None
    return _locate(ends - lengths, ends, wanted)


def _locate(
    starts: np.ndarray, ends: np.ndarray, cuts: Sequence[float]
) -> tuple[np.ndarray, bool]:
    """Return the first token at or behind each bound, and if none lies across."""
    wanted = np.asarray(cuts)
    index = starts.searchsorted(wanted)
    reached = np.concatenate([[0], ends])[index]
    if wanted.dtype.kind == "i":
        return index, bool((reached <= wanted).all())
    fractional = wanted % 1 > 0
    return index - fractional, bool((fractional | (reached <= wanted)).all())


def _lay_along(
    pieces: list[str], text: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Lay sentencepiece pieces along a text, in bytes.

    A piece may carry a space that the text lacks (the dummy prefix at the start
    and behind special tokens).

    Returns:
        tuple | None: byte starts and ends of the pieces, and the byte position
        of every character; None when the pieces do not spell the text.
    """
    data = text.encode()
    sizes = [len(char.encode()) for char in text]
    positions = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    starts, ends, at = [], [], 0
    for piece in pieces:
        byte = _BYTE_PIECE.fullmatch(piece)
        said = (
            bytes([int(byte[1], 16)]) if byte else piece.replace(_SPACE, " ").encode()
        )
        if not data.startswith(said, at):
            said = said[1:] if said.startswith(b" ") else None
            if said is None or not data.startswith(said, at):
                return None
        starts.append(at)
        at += len(said)
        ends.append(at)
    if at != len(data):
        return None
    return np.array(starts, np.int64), np.array(ends, np.int64), positions
