"""One training sample as it is shown: what was read, what the model gets of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmvlm.structures import (
    IGNORE_INDEX,
    AnnotatedImage,
    Conversation,
    EncodedSample,
    Region,
    ViewLayout,
)
from mmvlm.structures.masks import check_rle, rle_to_mask

#: Colours of regions, in turn.
COLOURS = (
    *("#e11d48", "#2563eb", "#16a34a", "#d97706", "#9333ea"),
    *("#0891b2", "#db2777", "#65a30d", "#7c3aed", "#ea580c"),
)
#: What decoders write for a part of a character.
_HALF = "\ufffd"
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\ud800-\udfff]"
)


@dataclass(frozen=True)
class TokenRun:
    """Neighbouring tokens of one kind.

    Args:
        kind (str): ``text`` (read only), ``trained`` or ``slot`` (of an image).
        pieces (tuple[str, ...]): text of every token; of a slot its name.
        count (int): positions.
        start (int): first position.
    """

    kind: str
    pieces: tuple[str, ...]
    count: int
    start: int


@dataclass
class SampleCard:
    """Everything the browser shows of one sample; what failed is empty.

    Args:
        dataset (str): name of the dataset.
        index (int): number of the record.
        id (str): as the file gives it.
        path (str): first image, or the annotation file.
        record (Any): as the reader sees it.
        conversation (Conversation | None): before regions become text.
        annotation (AnnotatedImage | None): all that is annotated in the image.
        images (list[np.ndarray]): original images, (H, W, 3) uint8.
        views (list[np.ndarray]): per image (V, 3, h, w) uint8.
        layouts (list[ViewLayout]): per image.
        runs (list[TokenRun]): of the encoded sample.
        reason (str | None): why the sample is bad or left out.
    """

    dataset: str
    index: int
    id: str
    path: str
    record: Any = None
    conversation: Conversation | None = None
    annotation: AnnotatedImage | None = None
    images: list[np.ndarray] = field(default_factory=list)
    views: list[np.ndarray] = field(default_factory=list)
    layouts: list[ViewLayout] = field(default_factory=list)
    runs: list[TokenRun] = field(default_factory=list)
    reason: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Positions: all, of slots, trained; images and their views."""
        count = {kind: 0 for kind in ("slot", "trained", "text")}
        for run in self.runs:
            count[run.kind] += run.count
        return dict(
            tokens=sum(count.values()),
            trained=count["trained"],
            image_tokens=count["slot"],
            images=len(self.images),
            views=sum(len(views) for views in self.views),
        )

    @property
    def regions(self) -> list[Region]:
        """Regions of all turns, in reading order; their numbers count from 1."""
        turns = self.conversation.turns if self.conversation else ()
        return [p for turn in turns for p in turn.parts if isinstance(p, Region)]


def colour_of(number: int) -> str:
    """Return the colour of a region by its place among :attr:`SampleCard.regions`."""
    return COLOURS[number % len(COLOURS)]


def visible(text: str) -> str:
    """Return a text whose control characters are written out."""
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def token_runs(encoded: EncodedSample, tokenizer: Any) -> list[TokenRun]:
    """Cut a sample into runs of read, trained and image tokens."""
    ids, labels = encoded.input_ids, encoded.labels
    slots = {slot.start: slot for slot in encoded.slots}
    covered = np.zeros(len(ids), dtype=bool)
    for slot in encoded.slots:
        covered[slot.start : slot.start + slot.length] = True
    runs: list[TokenRun] = []
    at = 0
    while at < len(ids):
        if at in slots:
            slot = slots[at]
            name = f"{slot.modality} {slot.index + 1}"
            runs.append(TokenRun("slot", (name,), slot.length, at))
            at += slot.length
            continue
        trained, end = labels[at] != IGNORE_INDEX, at
        while (
            end < len(ids)
            and not covered[end]
            and (labels[end] != IGNORE_INDEX) == trained
        ):
            end += 1
        pieces = token_pieces(tokenizer, ids[:end].tolist(), at)
        runs.append(TokenRun("trained" if trained else "text", pieces, end - at, at))
        at = end
    return runs


def token_pieces(tokenizer: Any, ids: Sequence[int], start: int) -> tuple[str, ...]:
    """Return the text that every token from ``start`` on adds.

    A token is decoded with those before it, as tokens may hold parts of characters
    or lose their space at the beginning.
    """
    pieces = []
    options = dict(skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for at in range(start, len(ids)):
        before = [token for token in ids[max(0, at - 3) : at] if token >= 0]
        text = tokenizer.decode([*before, ids[at]], **options)
        head = tokenizer.decode(before, **options) if before else ""
        if not text.startswith(head):
            head = head.rstrip(_HALF)  # this token ends a character
        whole = text.startswith(head) and not text.endswith(_HALF)
        # A character of several tokens is told with the last of them.
        pieces.append(text[len(head) :] if whole else "")
    return tuple(pieces)


def mask_outlines(
    polygons: Sequence, rle: dict | None, size: tuple[int, int] | None
) -> list[np.ndarray]:
    """Return the rings, (N, 2) pixels, around a mask; damaged masks have none.

    Args:
        polygons (Sequence): flat rings.
        rle (dict | None): takes the place of ``polygons``.
        size (tuple[int, int] | None): height and width of the image.
    """
    if rle is None:
        rings = [np.asarray(ring, float) for ring in polygons]
        return [r.reshape(-1, 2) for r in rings if r.ndim == 1 and len(r) % 2 == 0]
    import cv2

    try:
        mask = rle_to_mask(check_rle(rle, size))
    except (ValueError, TypeError):
        return []
    # Along the corners of pixels: the mask of one pixel has an extent.
    large = cv2.resize(mask, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    rings, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [(ring[:, 0] + 0.5) / 4 for ring in rings]


def region_outlines(region: Region, number: int) -> list[np.ndarray]:
    """Return :func:`mask_outlines` of one of a region's boxes."""
    polygons = region.polygons[number] if number < len(region.polygons) else ()
    rle = region.rles[number] if number < len(region.rles) else None
    return mask_outlines(polygons, rle, region.boxes.size)
