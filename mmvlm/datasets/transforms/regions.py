"""Regions of a conversation as text, before it is encoded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mmvlm.registry import CODECS, TRANSFORMS
from mmvlm.structures import Boxes, Conversation, Image, Region, Text, Turn
from mmvlm.text.codecs.base import GroundingCodec
from mmvlm.text.templates.base import check_single_token

_OUTSIDE = ("clip", "keep", "error")
_EMPTY = ("error", "keep")


@TRANSFORMS.register_module()
class WriteRegions:
    """Write all regions as text, in the syntax of one codec.

    Required keys: ``conversation``. Changed key: ``conversation``, which holds no
    region behind this transform; words that tasks marked as an expression, a
    category, ... get the codec's marks. Added keys:

    - ``regions``: tuple of :class:`Region`, one per token of the codec that the
      features of a region fill, in reading order; the order of their slots.
    - ``marked_regions``: the same for tokens that a head reads: what it learns.
    - ``gt_boxes``: :class:`Boxes` of the last answer in original pixels, when all
      its regions lie in one image; otherwise None.
    - ``clipped_boxes`` (int): how many boxes were cut to the image.

    Args:
        codec (dict | GroundingCodec): the syntax; config in ``CODECS``.
        outside (str): boxes and points that leave the image: ``clip`` cuts them to
            it, counted; ``keep`` writes what the codec makes of them; ``error``.
        empty (str): boxes of no width or height, or with corners swapped (after
            clipping): ``error`` or ``keep``.
        require_tokens (bool): at binding, refuse a tokenizer that does not hold each
            of the codec's special tokens as one token. False writes them in pieces.

    Raises:
        ValueError: for an unknown policy.
    """

    #: Answers that hold regions can be said behind this transform.
    writes_regions = True

    def __init__(
        self,
        codec: dict | GroundingCodec,
        outside: str = "clip",
        empty: str = "error",
        require_tokens: bool = True,
    ) -> None:
        for name, value, known in (
            ("outside", outside, _OUTSIDE),
            ("empty", empty, _EMPTY),
        ):
            if value not in known:
                raise ValueError(
                    f"WriteRegions: {name}='{value}', expected one of {list(known)}."
                )
        self.codec = CODECS.build(codec) if isinstance(codec, dict) else codec
        self.outside = outside
        self.empty = empty
        self.require_tokens = require_tokens
        self._taken: tuple[str, ...] | None = None

    def bind(self, context: Any) -> None:
        """Check that the tokenizer holds the codec's tokens; take what the model takes.

        Raises:
            ValueError: naming tokens that are missing.
        """
        self._taken = getattr(context, "modalities", None)
        if self.require_tokens:
            check_tokens(self.codec, context.tokenizer)

    def __call__(self, item: dict) -> dict:
        """Return the item with its regions written.

        Raises:
            ValueError: naming the sample, for a region that the codec or the
                policies do not take.
        """
        conversation: Conversation = item["conversation"]
        item["clipped_boxes"] = 0
        turns: list[Turn] = []
        regions: dict[str, list[Region]] = dict(input=[], output=[])
        codec = self.codec.shown_as([one.whole_size for one in item.get("layouts", ())])
        try:
            for number, turn in enumerate(conversation.turns):
                parts = [self._inside(part, item) for part in turn.parts]
                parts = self._opened(parts, conversation.turns, number)
                written = tuple(codec.write(parts, turn.role, regions))
                turns.append(replace(turn, parts=written))
            self._check_filled(len(regions["input"]), len(regions["output"]))
        except ValueError as error:
            raise ValueError(
                f"sample {item.get('index', conversation.id)} "
                f"of {item.get('dataset', 'a conversation')}: {error}"
            ) from error
        item["gt_boxes"] = _answer_boxes(conversation)
        item["regions"] = tuple(regions["input"])
        item["marked_regions"] = tuple(regions["output"])
        item["conversation"] = replace(conversation, turns=turns)
        return item

    def plan(self, item: dict) -> dict:
        """Return the item as always: no pixel is needed."""
        return self(item)

    def _inside(self, part: Any, item: dict) -> Any:
        """Return a region as the policies want it; other parts as they are."""
        if not isinstance(part, Region) or not len(part.boxes):
            return part
        boxes = part.boxes.to("pixel")
        height, width = boxes.size
        inside = boxes.clip()
        away = (np.abs(inside.xyxy - boxes.xyxy) > 1e-6).any(axis=1)
        if away.any() and self.outside == "error":
            raise ValueError(
                f"box {boxes.xyxy[away][0].tolist()} leaves the image of {width} x "
                f"{height} pixels; use WriteRegions(outside='clip') to cut it."
            )
        if away.any() and self.outside == "clip":
            item["clipped_boxes"] += int(away.sum())
            boxes = inside
        # A token stands for an empty mask as well; only coordinates need an area.
        is_written = part.kind == "box" or self.codec.writes_coordinates
        if part.kind != "point" and self.empty == "error" and is_written:
            x1, y1, x2, y2 = boxes.xyxy.T
            flat = (x2 <= x1) | (y2 <= y1)
            if flat.any():
                raise ValueError(
                    f"box {part.boxes.to('pixel').xyxy[flat][0].tolist()} has no area "
                    f"in the image of {width} x {height} pixels. Leave the sample "
                    "out (bad_samples), or use WriteRegions(empty='keep')."
                )
        return replace(part, boxes=boxes)

    def _check_filled(self, prompted: int, answered: int) -> None:
        """Check that the model can fill the tokens that stand for regions.

        Args:
            prompted (int): tokens of questions that inputs fill.
            answered (int): tokens of answers that a head reads.
        """
        question, answer = (
            self.codec.region_tokens.get(role) for role in ("user", "assistant")
        )
        if self._taken is None or question is None or question.use != "input":
            return
        fills = question.kind in self._taken
        if prompted and not fills and not self.codec.writes_coordinates:
            raise ValueError(
                f"{prompted} region(s) are shown as '{question.token}' alone, but the "
                f"model takes {list(self._taken)} and cannot see them. Add a region "
                "encoder (model.connectors), or take a codec that writes coordinates."
            )
        if answered and fills and answer is not None and answer.token == question.token:
            raise ValueError(
                f"{answered} '{answer.token}' in answers, which the model fills in "
                f"questions ({prompted} there) and nobody can fill where it speaks. "
                "Leave regions out of answers, or give its codec a question_token."
            )

    def _opened(self, parts: list, turns: list[Turn], number: int) -> list:
        """Put what opens a question in front of its words, behind images."""
        if turns[number].role != "user":
            return parts
        answer = turns[number + 1].parts if number + 1 < len(turns) else ()
        opening = self.codec.opens_question(any(isinstance(p, Region) for p in answer))
        if not opening:
            return parts
        at = max(
            (i + 1 for i, p in enumerate(parts) if isinstance(p, Image)), default=0
        )
        if at < len(parts) and isinstance(parts[at], Text) and parts[at].text == "\n":
            at += 1
        return [*parts[:at], Text(opening), *parts[at:]]


def check_tokens(codec: GroundingCodec, tokenizer: Any) -> None:
    """Check that each special token of a codec is one token of the tokenizer.

    Raises:
        ValueError: naming the codec, some of the tokens and how to add them.
    """
    missing = []
    for token in codec.special_tokens:
        number = tokenizer.convert_tokens_to_ids(token)
        if number is None or number == tokenizer.unk_token_id:
            missing.append(token)
    label = type(codec).__name__
    if missing:
        raise ValueError(
            f"{label} writes {len(codec.special_tokens)} special tokens; the tokenizer "
            f"({type(tokenizer).__name__}) lacks {len(missing)} of them: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}. Add them "
            "by model.language_model.new_tokens=dict(codec=...), or use "
            "WriteRegions(require_tokens=False) to write them in pieces."
        )
    if codec.special_tokens:
        check_single_token(label, codec.special_tokens[0], tokenizer)


def _answer_boxes(conversation: Conversation) -> Boxes | None:
    """Return the boxes of the last turn, when an answer in one image."""
    last = conversation.turns[-1]
    if last.role != "assistant":
        return None
    found = [part for part in last.parts if isinstance(part, Region)]
    if not found or len({(part.image, part.boxes.size) for part in found}) > 1:
        return None
    rows = [part.boxes.to("pixel").xyxy for part in found]
    return Boxes(np.concatenate(rows), found[0].boxes.size)
