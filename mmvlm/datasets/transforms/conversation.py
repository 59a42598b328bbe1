"""From a conversation to ids, labels and slots, inside the data pipeline."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import (
    IGNORE_INDEX,
    Conversation,
    EncodedSample,
    InputLayout,
    Region,
    Text,
    TextMark,
    Turn,
)
from mmvlm.structures.vision import count_of_kind
from mmvlm.text.encoding import ConversationEncoder, SampleDropped

from ..bad_samples import DATA_ERRORS

_OVERFLOW = ("error", "drop", "truncate_text")
_MODES = ("train", "generate")


@TRANSFORMS.register_module()
class EncodeConversation:
    """Encode the item's conversation with the bound template and tokenizer.

    Keys used: ``conversation``, ``layouts`` (samples with images), ``media``
    (samples with other inputs), ``regions`` and ``marked_regions`` (from
    :class:`WriteRegions`); ``dataset`` and ``index`` for messages. Keys added:
    ``encoded`` (:class:`EncodedSample`; with a template for encoder-decoders what the
    encoder reads, beside ``encoded_answer``, the decoder's), ``truncated_tokens`` (int,
    tokens that were cut off), ``dropped_regions`` (int, regions and marks that went
    with them), ``dropped_labels`` (bool, nothing is trained: the answers are empty or
    have weight 0, or LLaVA's count failed); in mode ``generate`` also
    ``gt_text`` (str, the answer that was left out; ``None`` without one) and
    ``gt_regions`` (tuple, what heads read in that answer). Changed keys: ``regions``
    holds what fills the slots of regions and ``marked_regions`` what belongs to the
    marks, in their order (indices of slots and marks count by kind); for a model that
    takes no regions, ``regions`` stays.

    Args:
        max_length (int | None): most tokens of a sample, image tokens counted;
            None sets no limit.
        overflow (str): what to do with a longer one. ``error`` stops; ``drop``
            leaves it out, counted; ``truncate_text`` cuts text off its end, never
            the tokens of an image or other media. A region or a mark in what is cut
            goes whole, with what a head would learn there; a sample that is left
            without any of its marks is left out. Both are counted.
        count_images (bool): False lets an image or other input count as one
            token of ``max_length``, as official codes do that cut ids before
            images come in (DenseFusion, LLaVA-HR).
        mode (str): ``train``, or ``generate``: the conversation up to its last
            question and the opening of an answer.
        drop_on_mismatch, labels: see :class:`ConversationEncoder`.
    """

    #: The pipeline says which mode it is for.
    takes_mode = True
    #: Options that prompts without an answer do without.
    only_training = (
        *("max_length", "overflow", "count_images"),
        *("drop_on_mismatch", "labels"),
    )

    def __init__(
        self,
        max_length: int | None = None,
        overflow: str = "error",
        mode: str = "train",
        drop_on_mismatch: bool = False,
        labels: str = "exact",
        count_images: bool = True,
    ) -> None:
        if overflow not in _OVERFLOW:
            raise ValueError(
                f"EncodeConversation: overflow='{overflow}', expected one of "
                f"{list(_OVERFLOW)}."
            )
        if mode not in _MODES:
            raise ValueError(
                f"EncodeConversation: mode='{mode}', expected one of {list(_MODES)}."
            )
        if max_length is not None and max_length < 1:
            raise ValueError(
                f"EncodeConversation: max_length={max_length}, expected at least 1."
            )
        self.max_length = max_length
        self.overflow = overflow
        self.count_images = count_images
        self.mode = mode
        self.drop_on_mismatch = drop_on_mismatch
        self.labels = labels
        self.context: Any = None
        self._encoder: ConversationEncoder | None = None

    def bind(self, context: Any) -> None:
        """Take template, tokenizer and token count.

        Raises:
            ValueError: when the tokenizer cannot write the template.
        """
        self.context = context
        kind = ConversationEncoder
        if context.template.is_encoder_decoder:
            from mmvlm.text.seq2seq_encoding import Seq2SeqEncoder

            kind = Seq2SeqEncoder

        self._encoder = kind(
            context.template,
            context.tokenizer,
            drop_on_mismatch=self.drop_on_mismatch,
            labels=self.labels,
            model_max_length=self.max_length,
        )

    def __call__(self, item: dict) -> dict:
        """Return the item with ``encoded``.

        Raises:
            RuntimeError: before :meth:`bind`.
            ValueError: naming the sample, when it cannot be encoded or is longer
                than ``max_length`` under ``overflow='error'``.
            SampleDropped: when it is left out.
        """
        prepared = self._prepare(item)
        try:
            (encoded,) = self._encode([prepared])
        except ValueError as error:
            raise ValueError(f"{_where(item)}: {error}") from error
        return self._finish(item, *prepared, encoded)

    def lengths(self, items: list[dict]) -> list[int | None]:
        """Return the tokens of many samples, with one call of the tokenizer.

        Args:
            items (list[dict]): as :meth:`Compose.plan` leaves them.

        Returns:
            list[int | None]: None for a sample that fails or is left out.
        """
        prepared = [_tried(self._prepare, item) for item in items]
        good = [one for one in prepared if one is not None]
        try:
            encoded = iter(self._encode(good))
        except ValueError:  # one sample of the batch; each alone tells which
            alone = (_tried(self._encode, [one]) for one in good)
            encoded = iter([None if one is None else one[0] for one in alone])
        lengths: list[int | None] = []
        for item, one in zip(items, prepared, strict=True):
            sample = None if one is None else next(encoded)
            done = None
            if sample is not None:
                done = _tried(self._finish, item, *one, sample)
            lengths.append(None if done is None else num_tokens(done))
        return lengths

    def _prepare(self, item: dict) -> tuple[Conversation, dict[str, list[int]]]:
        """Return what is encoded, and by kind the tokens of each input."""
        if self._encoder is None:
            raise RuntimeError(
                "EncodeConversation has no context yet; call dataset.bind(context) "
                "(the runner does so when it builds the dataloaders)."
            )
        where = _where(item)
        conversation = item["conversation"]
        lengths = dict(image=self._image_lengths(item, where))
        lengths |= self._media_lengths(item, where)
        lengths |= self._region_lengths(item)
        if self.mode == "generate":
            conversation, answer = _cut_answer(conversation, where)
            item["gt_text"] = None if answer is None else answer.text
            read = [] if answer is None else _marked([answer], "output")
            regions = item.get("marked_regions", ())
            item["gt_regions"] = tuple(regions[mark.index] for mark in read)
        return conversation, lengths

    def _encode(self, prepared: list[tuple]) -> list[EncodedSample]:
        conversations, lengths = zip(*prepared, strict=True)
        generate = self.mode == "generate"
        return self._encoder(conversations, lengths, add_generation_prompt=generate)

    def _finish(
        self, item: dict, conversation: Conversation, lengths: dict, encoded: Any
    ) -> dict:
        """Hold a sample against the limits; return the item with ``encoded``."""
        where, generate = _where(item), self.mode == "generate"
        trains = bool((encoded.text.labels != IGNORE_INDEX).any())
        item["dropped_labels"] = not generate and not trains
        item["truncated_tokens"] = item["dropped_regions"] = 0
        if item["dropped_labels"]:
            roles = [turn.role for turn in conversation.turns]
            if "assistant" not in roles:
                raise ValueError(
                    f"{where}: no token would be trained, roles are {roles}."
                )
        limit = self.limit(encoded)
        if limit is not None and len(encoded) > limit:
            whole, media = encoded, {"image", *conversation.media}
            encoded = self._shorten(whole, limit, where, media)
            item["truncated_tokens"] = len(whole) - len(encoded)
            item["dropped_regions"] = _num_places(whole) - _num_places(encoded)
            lost_all = whole.text.marks and not encoded.text.marks
            untrained = (encoded.text.labels == IGNORE_INDEX).all()
            if not generate and trains and (untrained or lost_all):
                what = "trained token" if untrained else "token that a head reads"
                raise SampleDropped(f"{where}: max_length={limit} leaves no {what}.")
        item["encoded"] = encoded
        _keep_regions(item, encoded, set(lengths) - {"image", *conversation.media})
        if encoded.answer is not None:
            item["encoded"], item["encoded_answer"] = encoded.split()
        return item

    def _image_lengths(self, item: dict, where: str) -> list[int]:
        layouts = item.get("layouts") or []
        expected = len(item["conversation"].images)
        if len(layouts) != expected:
            raise ValueError(
                f"{where}: {expected} images but {len(layouts)} layouts; the pipeline "
                "needs LoadImages and a view transform before EncodeConversation."
            )
        known = self.context.modalities
        if layouts and (self.context.token_count is None or "image" not in known):
            raise ValueError(
                f"{where}: it has {expected} images, but the model takes none: no "
                "connector fills their slots."
            )
        return self._tokens("image", layouts)

    def _tokens(self, kind: str, layouts: Sequence[Any]) -> list[int]:
        """Return the tokens of each input of a kind."""
        if not layouts:
            return []
        count = count_of_kind(self.context.token_count, kind)
        return [count(layout) for layout in layouts]

    def _media_lengths(self, item: dict, where: str) -> dict[str, list[int]]:
        lengths = {}
        for name, sources in item["conversation"].media.items():
            if name not in self.context.modalities:
                raise ValueError(
                    f"{where}: it has '{name}', but the model takes "
                    f"{list(self.context.modalities)}."
                )
            arrays = item.get("media", {}).get(name, ())
            if len(arrays) != len(sources):
                raise ValueError(
                    f"{where}: {len(sources)} inputs of '{name}', {len(arrays)} of "
                    "them loaded; the pipeline needs LoadMedia before "
                    "EncodeConversation."
                )
            layouts = [InputLayout(name, tuple(array.shape)) for array in arrays]
            lengths[name] = self._tokens(name, layouts)
        return lengths

    def _region_lengths(self, item: dict) -> dict[str, list[int]]:
        """Return, for a model that takes regions, the tokens of each."""
        kinds = {mark.kind for mark in _marked(item["conversation"].turns, "input")}
        lengths = {}
        for kind in sorted(kinds.intersection(self.context.modalities)):
            prepared = item.get("inputs", {}).get(kind)
            if prepared is None and getattr(self.context, "region_needs", None):
                raise ValueError(
                    f"{_where(item)}: {len(item.get('regions', ()))} '{kind}' inputs "
                    "that nothing has prepared; put PrepareRegions between "
                    "WriteRegions and EncodeConversation."
                )
            layouts = getattr(prepared, "layouts", None) or [
                InputLayout(kind, region.boxes.xyxy.shape)
                for region in item.get("regions", ())
            ]
            lengths[kind] = self._tokens(kind, layouts)
        return lengths

    def limit(self, encoded: EncodedSample) -> int | None:
        """Return the most tokens that a sample may have; None for any number."""
        if self.max_length is None or self.count_images:
            return self.max_length
        return self.max_length + sum(slot.length - 1 for slot in encoded.slots)

    def _shorten(
        self, encoded: EncodedSample, limit: int, where: str, media: set[str]
    ) -> EncodedSample:
        """Apply the policy to a sample that is too long; ``media`` are never cut."""
        total, tokens, lost = len(encoded), Counter(), Counter()
        spans = [(s.modality, s.start, s.start + s.length) for s in encoded.slots]
        before = total - len(encoded.text)
        for mark in encoded.text.marks:
            spans.append((mark.kind, before + mark.start, before + mark.stop))
        for kind, start, stop in spans:
            tokens[kind] += stop - start
            lost[kind] += min(stop - start, max(0, stop - limit))
        lost = +lost  # the kinds of which any is lost
        if self.overflow == "drop":
            raise SampleDropped(f"{where}: {total} tokens, max_length={limit}.")
        if self.overflow == "truncate_text" and not media & set(lost):
            if self.mode == "generate":
                raise ValueError(
                    f"{where}: a prompt of {total} tokens cannot be cut to "
                    f"max_length={limit}, it would lose the question's end. Raise "
                    "max_length."
                )
            begun = [start for _, start, stop in spans if start < limit < stop]
            return encoded.cut(min([limit, *begun]))
        if lost:
            words = ", ".join(f"{n} of {tokens[k]} {k} tokens" for k, n in lost.items())
            raise ValueError(
                f"max_length={limit} would cut {words} of {where} ({total} tokens); "
                f"raise max_length to >= {total}, use overflow='drop', or fewer views."
            )
        raise ValueError(
            f"{where}: {total} tokens ({tokens['image']} of images), "
            f"max_length={limit}; raise max_length to >= {total}, or use "
            "overflow='truncate_text' or 'drop'."
        )


def _tried(function: Callable, *values: Any) -> Any:
    """Return what a function gives, None for a sample that fails or is left out."""
    try:
        return function(*values)
    except (*DATA_ERRORS, SampleDropped):
        return None


def num_tokens(item: dict) -> int:
    """Return the tokens of an encoded sample, both streams counted."""
    return len(item["encoded"]) + len(item.get("encoded_answer", ()))


def _num_places(encoded: EncodedSample) -> int:
    """Return how many slots and marks a sample has."""
    return len(encoded.slots) + len(encoded.text.marks)


def _where(item: dict) -> str:
    name = item.get("index", item["conversation"].id)
    dataset = item.get("dataset")
    return f"sample {name} of {dataset}" if dataset else f"sample {name}"


def _marked(turns: list[Turn], use: str) -> list[TextMark]:
    """Return the marks of one use in reading order."""
    texts = (part for t in turns for part in t.parts if isinstance(part, Text))
    return [mark for text in texts for mark in text.marks if mark.use == use]


def _keep_regions(item: dict, encoded: EncodedSample, kinds: set[str]) -> None:
    """Keep the regions that slots and marks stand for, in their order; count by kind.

    A template may leave a question's words out, a prompt leaves the answer out.
    """
    numbers: Mapping = defaultdict(count)
    if kinds:
        filled = [slot for slot in encoded.slots if slot.modality in kinds]
        item["regions"] = tuple(item["regions"][slot.index] for slot in filled)
        for kind in kinds & set(item.get("inputs", {})):
            kept = [slot.index for slot in filled if slot.modality == kind]
            prepared = item["inputs"][kind].select(kept)
            item["inputs"] = {**item["inputs"], kind: prepared}
        number = {slot: next(numbers["slot", slot.modality]) for slot in filled}
        encoded.slots = [
            replace(slot, index=number.get(slot, slot.index)) for slot in encoded.slots
        ]
    if "marked_regions" in item:
        regions, marks = item["marked_regions"], encoded.text.marks
        item["marked_regions"] = tuple(regions[mark.index] for mark in marks)
        encoded.text.marks = [
            replace(mark, index=next(numbers["mark", mark.kind])) for mark in marks
        ]


def _cut_answer(
    conversation: Conversation, where: str
) -> tuple[Conversation, Turn | None]:
    """Return the conversation up to its last question, and the answer behind it."""
    turns = list(conversation.turns)
    answer = None
    if turns and turns[-1].role == "assistant":
        last = turns.pop()
        kept = [part for part in last.parts if not isinstance(part, Text)]
        if any(isinstance(part, Region) for part in kept):
            raise ValueError(
                f"{where}: the answer to generate holds a region; put "
                "WriteRegions(codec=dict(type=...)) into the pipeline before "
                "EncodeConversation."
            )
        if kept:
            name = getattr(kept[0], "modality", type(kept[0]).__name__.lower())
            raise ValueError(
                f"{where}: the answer to generate holds an <{name}>; inputs must "
                "stand in questions."
            )
        answer = last
    return replace(conversation, turns=turns), answer
