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
    Mark,
    Media,
    Slot,
    TextMark,
)

from .frame_tokens import frame_tokens
from .templates.base import ChatTemplate, Piece, is_empty
from .token_spans import TokenSpans, spans_of

#: Token counts of a sample's inputs by kind; a plain sequence means images.
Lengths = Mapping[str, Sequence[int]] | Sequence[int]
#: Constant text before an image (system text and role) is encoded once; this
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
            read out of what is said, and none out of literal text.
        marks (list[TextMark]): places that inputs fill or heads read.
    """

    text: str
    bounds: list[int] = field(default_factory=list)
    said: list[tuple[int, int]] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    marks: list[TextMark] = field(default_factory=list)


class ConversationEncoder:
    """Encode conversations with one template and one tokenizer.

    Ids follow LLaVA's rule: the rendered text is split at images and every
    chunk is encoded alone, only the first behind BOS (templates with
    ``encode_by='piece'`` encode every piece alone). Labels come from the
    characters of trained pieces, exact to the token. What a conversation says is
    text: ``</s>`` or ``<|im_end|>`` in a question or an answer becomes ordinary
    tokens, never the one that ends a turn (see :func:`frame_tokens`). An empty answer
    is not trained, nor is its end. Text that an input fills is encoded as it is
    written, then its tokens make way for those of the input.

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
        added = tokenizer.added_tokens_decoder.values()
        self._added = frozenset(token.content for token in added)

    def __getstate__(self) -> dict:
        """Leave out what is made again in another process."""
        return {**self.__dict__, "_cache": {}, "_spans": None}

    def __call__(
        self,
        conversations: Sequence[Conversation],
        lengths: Sequence[Lengths],
        *,
        add_generation_prompt: bool = False,
    ) -> list[EncodedSample]:
        """Encode a batch with one call of the tokenizer.

        Args:
            conversations (Sequence[Conversation]): regions written as text.
            lengths (Sequence[Mapping | Sequence]): per conversation, by kind of
                input (``image``, ``region``, ``audio``), tokens of each one; a
                sequence alone holds those of the images. Text that inputs of a
                kind without an entry would fill stays text.
            add_generation_prompt (bool): end with what opens an answer.

        Raises:
            ValueError: naming the sample, when roles or inputs are not what
                the template takes.
        """
        counts = [
            one if isinstance(one, Mapping) else {"image": one} for one in lengths
        ]
        if self._spans is None:
            self._spans = spans_of(self.tokenizer)
        plans, texts, bounds, breaks = [], [], [], []
        for conversation, known in zip(conversations, counts, strict=True):
            if not self.counts_as_llava:
                conversation = _without_empty_answers(conversation)
            pieces = self.template.render(
                conversation, add_generation_prompt=add_generation_prompt
            )
            plan = self._plan(pieces, known)
            _check_inputs(plan, known, conversation.id)
            plans.append(plan)
            for number, run in enumerate(plan):
                if isinstance(run, _Run) and not self._cached(run, number):
                    texts.append(run.text)
                    bounds.append(self._edges(run))
                    breaks.append(run.breaks)
        apart = [breaks] if any(breaks) else []
        encoded = iter(self._spans.encode(texts, bounds, *apart))
        samples = [
            self._assemble(plan, encoded, known)
            for plan, known in zip(plans, counts, strict=True)
        ]
        if self.counts_as_llava and not add_generation_prompt:
            for conversation, sample in zip(conversations, samples, strict=True):
                self._count_as_llava(conversation, sample)
        return samples

    def _plan(self, pieces: list[Piece], lengths: Mapping) -> list:
        """Return runs of text, inputs, and (token id, trained) pairs."""
        plan: list = []
        run: _Run | None = None
        joins = self.template.encode_by == "chunk"
        for piece in pieces:
            if piece.image is not None:
                plan.append(Media("image", piece.image))
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
                if piece.marks:
                    run.marks += [mark.moved(start) for mark in piece.marks]
                if piece.supervised:
                    run.bounds += (start, len(run.text))
        for entry in plan:
            if isinstance(entry, _Run):
                entry.breaks = self._breaks(entry)
                if entry.marks:
                    entry.marks = [
                        mark
                        for mark in entry.marks
                        if mark.use == "output"
                        or (mark.use == "input" and mark.kind in lengths)
                    ]
        return plan

    def _breaks(self, run: _Run) -> list[int]:
        """Return a position inside each token that what is said must not become."""
        if self.labels == "llava":
            return []
        found = {
            mark.start + 1
            for mark in run.marks
            if mark.use == "literal" and run.text[mark.start : mark.stop] in self._added
        }
        own = {mark.start for mark in run.marks if mark.use != "literal"}
        for start, end in run.said:
            first, last = max(0, start - self._reach), end + self._reach
            for match in self._framing.finditer(run.text, first, last):
                spoken = match.start() < end and match.end() > start
                if spoken and match.start() not in own:
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

    def _edges(self, run: _Run) -> list[float]:
        """Return the ends of trained spans and of marks, in order."""
        if not run.marks:
            return run.bounds
        ends = {e for mark in run.marks for e in (self._start(run, mark), mark.stop)}
        return sorted({*run.bounds, *ends})

    def _start(self, run: _Run, mark: TextMark) -> float:
        """Return where a mark begins; one of the tokenizer's tokens is left whole.

        Such a token may hold a space before its characters.
        """
        token = run.text[mark.start : mark.stop] in self._added
        return mark.start + 0.5 if token else mark.start

    def _cached(self, run: _Run, number: int) -> bool:
        """Whether the run's ids are kept; keeps constant ones from now on."""
        if self._edges(run) or run.breaks or (number and len(run.text) > 16):
            return False
        if run.text not in self._cache:
            if len(self._cache) >= _CACHE_SIZE:
                return False
            self._cache[run.text] = self._spans.ids(run.text)
        return True

    def _assemble(self, plan: list, encoded: Any, lengths: Mapping) -> EncodedSample:
        prefix = self._spans.prefix_ids if self.template.adds_bos else []
        ids, trained, slots, marks = [np.asarray(prefix, np.int64)], [], [], []
        at = len(ids[0])
        for number, entry in enumerate(plan):
            if isinstance(entry, _Run):
                if self._cached(entry, number):
                    new, index = self._cache[entry.text], ()
                else:
                    new, index = next(encoded)
                if entry.marks:
                    new, index, found = self._fill(entry, new, index, lengths)
                    for mark, start, stop in found:
                        if mark.use == "input":
                            slot = Slot(mark.index, at + start, stop - start, mark.kind)
                            slots.append(slot)
                        else:
                            place = (at + start, at + stop)
                            marks.append(Mark(mark.kind, mark.index, *place))
                trained += [
                    (at + a, at + b)
                    for a, b in zip(index[::2], index[1::2], strict=True)
                ]
            elif isinstance(entry, tuple):
                new = np.array([entry[0]], np.int64)
                if entry[1]:
                    trained.append((at, at + 1))
            else:
                length = lengths[entry.modality][entry.index]
                new = np.full(length, SLOT_TOKEN_ID, np.int64)
                slots.append(Slot(entry.index, at, length, entry.modality))
            ids.append(new)
            at += len(new)
        input_ids = np.concatenate(ids)
        labels = np.full(len(input_ids), IGNORE_INDEX, np.int64)
        for start, end in trained:
            labels[start:end] = input_ids[start:end]
        if slots:
            labels[input_ids == SLOT_TOKEN_ID] = IGNORE_INDEX
        return EncodedSample(input_ids, labels, slots, marks=marks)

    def _fill(
        self, run: _Run, ids: np.ndarray, index: np.ndarray, lengths: Mapping
    ) -> tuple[np.ndarray, list[int], list[tuple[TextMark, int, int]]]:
        """Put slots in the place of text that inputs fill.

        Args:
            run (_Run): text with marks.
            ids (np.ndarray): (T,) int64, its tokens.
            index (np.ndarray): the token at each of the run's edges.
            lengths (Mapping): by kind, tokens of each input.

        Returns:
            tuple: the ids with slots, the token at each of the run's ``bounds``, and
            the marks with the first and the last (exclusive) of their tokens.
        """
        places = dict(zip(self._edges(run), index.tolist(), strict=True))
        found = []
        for mark in run.marks:
            start, stop = places[self._start(run, mark)], places[mark.stop]
            if mark.use == "input":
                slot = np.full(lengths[mark.kind][mark.index], SLOT_TOKEN_ID, np.int64)
                ids = np.concatenate([ids[:start], slot, ids[stop:]])
                grown = start + len(slot) - stop
                stop += grown
                places |= {
                    edge: at + grown for edge, at in places.items() if edge >= mark.stop
                }
            found.append((mark, start, stop))
        return ids, [places[bound] for bound in run.bounds], found

    def _count_as_llava(
        self, conversation: Conversation, sample: EncodedSample
    ) -> None:
        from .llava_masking import official_mask

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


def _check_inputs(plan: list, lengths: Mapping, sample: str) -> None:
    """Check that there is a token count of every input that a template shows."""
    shown = [(e.modality, e.index) for e in plan if isinstance(e, Media)]
    runs = (entry for entry in plan if isinstance(entry, _Run))
    shown += [(m.kind, m.index) for r in runs for m in r.marks if m.use == "input"]
    known = {(kind, n) for kind, counts in lengths.items() for n in range(len(counts))}
    least = min((min(counts, default=1) for counts in lengths.values()), default=1)
    if not known.issuperset(shown) or least < 1:
        raise ValueError(
            f"sample '{sample}': the template shows images or other inputs {shown} "
            f"(kind, index), but token counts are given for {dict(lengths)} (each "
            "must be at least 1)."
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
    lengths: Lengths,
    *,
    add_generation_prompt: bool = False,
    drop_on_mismatch: bool = False,
) -> EncodedSample:
    """Encode one conversation; see :class:`ConversationEncoder`.

    Args:
        conversation (Conversation): regions written as text.
        template (ChatTemplate): renders it.
        tokenizer (Any): a transformers tokenizer, slow or fast.
        lengths (Mapping | Sequence): tokens of each input by kind, or of each
            image; see :class:`ConversationEncoder`.
        add_generation_prompt (bool): end with what opens an answer.
        drop_on_mismatch (bool): LLaVA's rule for samples that it cannot count.

    Returns:
        EncodedSample: placeholders expanded to slots of these ``lengths``.

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
        [lengths],
        add_generation_prompt=add_generation_prompt,
        drop_on_mismatch=drop_on_mismatch,
    )[0]


def encode_batch(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: Any,
    lengths: Sequence[Lengths],
    *,
    add_generation_prompt: bool = False,
    drop_on_mismatch: bool = False,
) -> list[EncodedSample]:
    """Encode several conversations with one call of a fast tokenizer.

    The result equals :func:`encode_conversation` of each; the arguments are the
    same, in lists.
    """
    encoder = _encoder(template, tokenizer, drop_on_mismatch)
    return encoder(conversations, lengths, add_generation_prompt=add_generation_prompt)
