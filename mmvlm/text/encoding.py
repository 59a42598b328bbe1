"""Conversations to ids, labels and slots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmvlm.structures import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    Conversation,
    EncodedSample,
    Media,
    Slot,
)

from .frame_tokens import frame_tokens
from .llava_masking import official_mask
from .templates.base import ChatTemplate, Piece, is_empty
from .token_spans import TokenSpans, spans_of

#: Constant text before a picture (system text and role) is encoded once; this
#: many such texts are kept.
_CACHE_SIZE = 512


class SampleDropped(Exception):
    """A sample that a policy leaves out; readers count it, nothing is broken."""

    counted_as = "dropped"


@dataclass(slots=True)
class _Run:
    """Text that is encoded as one string.

    Args:
        text (str): the characters.
        bounds (list[int]): start and end of every trained span, flat.
        said (list[tuple[int, int]]): what of it the conversation says.
        breaks (list[int]): where it must be cut so that no token of the frame is
            read out of what is said.

    """

    text: str
    bounds: list[int] = field(default_factory=list)
    said: list[tuple[int, int]] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)


class ConversationEncoder:
    """Encode conversations with one template and one tokenizer.

    Ids follow LLaVA's rule: the rendered text is split at pictures and every
    chunk is encoded alone, only the first behind BOS (templates with
    ``encode_by='piece'`` encode every piece alone). Labels come from the
    characters of trained pieces, exact to the token. What a conversation says is
    text: ``</s>`` or ``<|im_end|>`` in a question or an answer becomes ordinary
    tokens, never the one that ends a turn (see :func:`frame_tokens`). An empty answer
    is not trained, nor is its end.

    Args:
        template (ChatTemplate): renders conversations.
        tokenizer (Any): a transformers tokenizer, slow or fast; tokens are added
            before, not behind the encoder's back.
        drop_on_mismatch (bool): train no token of a sample on which LLaVA's own
            count of tokens fails, as LLaVA does.
        labels (str): ``exact``: the characters of answers and end marks;
            ``llava``: the tokens that LLaVA's count gives, its faults included
            (implies ``drop_on_mismatch``), to reproduce old runs; special tokens
            are then read out of questions and answers as LLaVA does.
        model_max_length (int | None): length beyond which LLaVA forgives a
            mismatch; None takes the tokenizer's.

    Raises:
        ValueError: when the tokenizer cannot write the template, or LLaVA's rules
            are asked of a template that LLaVA never counted.

    """

    def __init__(
        self,
        template: ChatTemplate,
        tokenizer: Any,
        *,
        drop_on_mismatch: bool = False,
        labels: str = "exact",
        model_max_length: int | None = None,
    ) -> None:
        template.check_tokenizer(tokenizer)
        if labels not in ("exact", "llava"):
            raise ValueError(f"labels='{labels}', expected 'exact' or 'llava'.")
        self.counts_as_llava = drop_on_mismatch or labels == "llava"
        if self.counts_as_llava and template.llava_version is None:
            option = "labels='llava'" if labels == "llava" else "drop_on_mismatch=True"
            raise ValueError(
                f"{option} is LLaVA's rule, but {template.label} is none of LLaVA's "
                "templates (vicuna_v1, llava_llama_2, mpt, plain, ...)."
            )
        self.template = template
        self.tokenizer = tokenizer
        self.labels = labels
        self.model_max_length = model_max_length
        self._cache: dict[str, np.ndarray] = {}
        self._spans: TokenSpans | None = None
        framing = () if labels == "llava" else frame_tokens(template, tokenizer)
        self._framing = re.compile("|".join(map(re.escape, framing)) or "(?!)")
        self._reach = max(map(len, framing), default=1) - 1

    def __getstate__(self) -> dict:
        """Leave out what is made again in another process."""
        return {**self.__dict__, "_cache": {}, "_spans": None}

    def __call__(
        self,
        conversations: Sequence[Conversation],
        image_lengths: Sequence[Sequence[int]],
        *,
        add_generation_prompt: bool = False,
        media_lengths: Sequence[Mapping[str, Sequence[int]]] | None = None,
    ) -> list[EncodedSample]:
        """Encode a batch with one call of the tokenizer.

        Args:
            conversations (Sequence[Conversation]): regions written as text.
            image_lengths (Sequence[Sequence[int]]): per conversation, tokens of
                each picture.
            add_generation_prompt (bool): end with what opens an answer.
            media_lengths (Sequence[Mapping] | None): per conversation, by
                modality, tokens of each input that is no picture.

        Raises:
            ValueError: naming the sample, when roles or pictures are not what
                the template takes.

        """
        media = media_lengths or [{}] * len(conversations)
        if self._spans is None:
            self._spans = spans_of(self.tokenizer)
        plans, texts, bounds, breaks = [], [], [], []
        for conversation, lengths in zip(conversations, image_lengths, strict=True):
            if not self.counts_as_llava:
                conversation = _without_empty_answers(conversation)
            pieces = self.template.render(
                conversation, add_generation_prompt=add_generation_prompt
            )
            plan = self._plan(pieces, lengths, conversation.id)
            _check_media(plan, media[len(plans)], conversation.id)
            plans.append(plan)
            for number, run in enumerate(plan):
                if isinstance(run, _Run) and not self._cached(run, number):
                    texts.append(run.text)
                    bounds.append(run.bounds)
                    breaks.append(run.breaks)
        apart = [breaks] if any(breaks) else []
        encoded = iter(self._spans.encode(texts, bounds, *apart))
        samples = [
            self._assemble(plan, encoded, lengths, others)
            for plan, lengths, others in zip(plans, image_lengths, media, strict=True)
        ]
        if self.counts_as_llava and not add_generation_prompt:
            for conversation, sample in zip(conversations, samples, strict=True):
                self._count_as_llava(conversation, sample)
        return samples

    def _plan(self, pieces: list[Piece], lengths: Sequence[int], sample: str) -> list:
        """Return runs of text, picture indices, media, (token id, trained) pairs."""
        plan: list = []
        run: _Run | None = None
        shown: list[int] = []
        joins = self.template.encode_by == "chunk"
        for piece in pieces:
            if piece.image is not None:
                plan.append(piece.image)
                shown.append(piece.image)
                run = None
            elif piece.media is not None:
                plan.append(piece.media)
                run = None
            elif piece.token is not None:
                number = getattr(self.tokenizer, f"{piece.token}_token_id")
                if number is not None:
                    plan.append((number, piece.supervised))
                run = None
            else:
                if run is None or not joins or self._parts(run, piece):
                    run = _Run("")
                    plan.append(run)
                start = len(run.text)
                run.text += piece.text
                run.said += [(start + a, start + b) for a, b in piece.said]
                if piece.supervised:
                    run.bounds += (start, len(run.text))
        if not set(shown) <= set(range(len(lengths))) or min(lengths, default=1) < 1:
            raise ValueError(
                f"sample '{sample}': the template shows pictures {shown}, but token "
                f"counts are given for {len(lengths)}: {list(lengths)} (each must be "
                "at least 1)."
            )
        for entry in plan:
            if isinstance(entry, _Run):
                entry.breaks = self._breaks(entry)
        return plan

    def _breaks(self, run: _Run) -> list[int]:
        """Return a position inside each frame token that what is said spells."""
        found = set()
        for start, end in run.said:
            first, last = max(0, start - self._reach), end + self._reach
            for match in self._framing.finditer(run.text, first, last):
                if match.start() < end and match.end() > start:
                    found.add(match.start() + 1)
        return sorted(found)

    def _parts(self, run: _Run, piece: Piece) -> bool:
        r"""Whether an answer must be encoded apart from what opens it.

        Byte-level tokenizers split white space by what follows it (``\n\nThe``
        into ``\n``, ``\n``, ``The``), but a prompt ends there: trained and asked
        ids would differ.
        """
        if not piece.supervised or not self._spans.is_byte_level:
            return False
        return len(run.text) > 1 and run.text[-2:].isspace()

    def _cached(self, run: _Run, number: int) -> bool:
        """Whether the run's ids are kept; keeps constant ones from now on."""
        if run.bounds or run.breaks or (number and len(run.text) > 16):
            return False
        if run.text not in self._cache:
            if len(self._cache) >= _CACHE_SIZE:
                return False
            self._cache[run.text] = self._spans.ids(run.text)
        return True

    def _assemble(
        self,
        plan: list,
        encoded: Any,
        lengths: Sequence[int],
        media: Mapping[str, Sequence[int]],
    ) -> EncodedSample:
        prefix = self._spans.prefix_ids if self.template.adds_bos else []
        ids, trained, slots = [np.asarray(prefix, np.int64)], [], []
        at = len(ids[0])
        for number, entry in enumerate(plan):
            if isinstance(entry, _Run):
                if self._cached(entry, number):
                    new, index = self._cache[entry.text], ()
                else:
                    new, index = next(encoded)
                trained += [
                    (at + a, at + b)
                    for a, b in zip(index[::2], index[1::2], strict=True)
                ]
            elif isinstance(entry, tuple):
                new = np.array([entry[0]], np.int64)
                if entry[1]:
                    trained.append((at, at + 1))
            else:
                other = isinstance(entry, Media)
                index = entry.index if other else entry
                modality = entry.modality if other else "image"
                length = (media[modality] if other else lengths)[index]
                new = np.full(length, SLOT_TOKEN_ID, np.int64)
                slots.append(Slot(index, at, length, modality))
            ids.append(new)
            at += len(new)
        input_ids = np.concatenate(ids)
        labels = np.full(len(input_ids), IGNORE_INDEX, np.int64)
        for start, end in trained:
            labels[start:end] = input_ids[start:end]
        return EncodedSample(input_ids, labels, slots)

    def _count_as_llava(
        self, conversation: Conversation, sample: EncodedSample
    ) -> None:
        keep = np.ones(len(sample), dtype=bool)
        for slot in sample.slots:
            keep[slot.start + 1 : slot.start + slot.length] = False
        ids = sample.input_ids[keep]
        trained, mismatch = official_mask(
            conversation, self.template, self.tokenizer, ids, self.model_max_length
        )
        if self.labels == "llava":
            # LLaVA may train a placeholder (<image> in a caption); nobody can.
            trained &= ids != SLOT_TOKEN_ID
            sample.labels[:] = IGNORE_INDEX
            sample.labels[keep] = np.where(trained, ids, IGNORE_INDEX)
        elif mismatch is not None:
            sample.labels[:] = IGNORE_INDEX


def _check_media(plan: list, lengths: Mapping[str, Sequence[int]], sample: str) -> None:
    """Hold the media that a template shows against the given token counts."""
    shown = [(e.modality, e.index) for e in plan if isinstance(e, Media)]
    given = [(m, i) for m in lengths for i in range(len(lengths[m]))]
    bad = [m for m in lengths if min(lengths[m], default=1) < 1]
    if sorted(shown) != sorted(given) or bad:
        raise ValueError(
            f"sample '{sample}': the template shows {shown} (modality, index), but "
            f"token counts are given for {given}: {dict(lengths)} (each must be at "
            "least 1)."
        )


_ENCODERS: dict[tuple, ConversationEncoder] = {}


def _encoder(template: ChatTemplate, tokenizer: Any, drop: bool) -> ConversationEncoder:
    """Return an encoder, kept for the last few templates and tokenizers."""
    key = (id(template), id(tokenizer), len(tokenizer), drop)
    known = _ENCODERS.get(key)
    if known is None:
        if len(_ENCODERS) >= 8:
            _ENCODERS.pop(next(iter(_ENCODERS)))
        known = ConversationEncoder(template, tokenizer, drop_on_mismatch=drop)
        _ENCODERS[key] = known
    return known


def _without_empty_answers(conversation: Conversation) -> Conversation:
    """Return the conversation with answers that say nothing left untrained."""
    if not any(turn.is_supervised and is_empty(turn) for turn in conversation.turns):
        return conversation
    turns = [
        replace(turn, supervised=False) if is_empty(turn) else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def encode_conversation(
    conversation: Conversation,
    template: ChatTemplate,
    tokenizer: Any,
    image_lengths: Sequence[int],
    *,
    add_generation_prompt: bool = False,
    drop_on_mismatch: bool = False,
) -> EncodedSample:
    """Encode one conversation; see :class:`ConversationEncoder`.

    Args:
        conversation (Conversation): regions written as text.
        template (ChatTemplate): renders it.
        tokenizer (Any): a transformers tokenizer, slow or fast.
        image_lengths (Sequence[int]): tokens of each picture.
        add_generation_prompt (bool): end with what opens an answer.
        drop_on_mismatch (bool): LLaVA's rule for samples that it cannot count.

    Returns:
        EncodedSample: placeholders expanded to ``image_lengths`` slots each.

    Raises:
        ValueError: naming the sample or the template.

    Example:
        >>> from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
        >>> tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer"))
        >>> template = CHAT_TEMPLATES.build(dict(type="vicuna_v1"))
        >>> talk = Conversation.from_texts("Colour?", "Red.", images=["a.png"])
        >>> sample = encode_conversation(talk, template, tokenizer, [4])
        >>> tokenizer.decode(sample.labels[sample.labels >= 0])
        ' Red.</s>'

    """
    return encode_batch(
        [conversation],
        template,
        tokenizer,
        [image_lengths],
        add_generation_prompt=add_generation_prompt,
        drop_on_mismatch=drop_on_mismatch,
    )[0]


def encode_batch(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: Any,
    image_lengths: Sequence[Sequence[int]],
    *,
    add_generation_prompt: bool = False,
    drop_on_mismatch: bool = False,
) -> list[EncodedSample]:
    """Encode several conversations with one call of a fast tokenizer.

    The result equals :func:`encode_conversation` of each; the arguments are the
    same, in lists.
    """
    encoder = _encoder(template, tokenizer, drop_on_mismatch)
    return encoder(
        conversations, image_lengths, add_generation_prompt=add_generation_prompt
    )
