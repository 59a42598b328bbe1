"""Reader of Osprey-724K: conversations about masks."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmvlm.datasets.io.annotation_files import need
from mmvlm.datasets.tasks.draws import draws_of
from mmvlm.datasets.tasks.templates import TemplatePool
from mmvlm.registry import DATASETS
from mmvlm.structures import Boxes, Conversation, Region, Text, Turn
from mmvlm.structures.masks import polygons_to_rle, rle_area, rle_box
from mmvlm.text.llava_format import IMAGE_TAG

from .llava import LLaVADataset
from .refcoco import masks_of

#: Words of a file's name and the form of its records, looked for in this order.
FORMS = {
    "part_level": "short",
    "short_form": "short",
    "positive_negative": "inline",
    "detailed_description": "description",
    "conversation": "conversation",
}
DESCRIPTIONS = (
    "Describe <region> in detail.",
    "What can be seen in <region>? Answer with every detail.",
    "Tell me all that there is to say about <region>.",
    "Give a full description of <region>.",
)
_OPENING = "Here is a picture.\n"
_SHORT = " Answer with one word or a short phrase."
_PLACE = re.compile(r"<region(\d*)>")
_DESCRIBED = re.compile(r"<[^<>]*>\s*:\s*(.*)", re.S)
_COCO_NAME = re.compile(r"COCO_[a-z]+\d+_")


@DATASETS.register_module()
class OspreyDataset(LLaVADataset):
    r"""Osprey's instruction data: LLaVA's turns beside masks.

    A record is ``{"file_name": "COCO_train2014_000000123456.jpg", "height": 480,
    "width": 640, "annotation": [{"segmentation": ...}], "conversations": [{"from",
    "value"}]}``; a segmentation is a list of polygons or run lengths. Every mask is a
    region of the first question, or of the one that says it. The prefix ``COCO_<set>_``
    of a name is dropped, as COCO's later releases do.

    Paper: Yuan et al., "Osprey: Pixel Understanding with Visual Instruction Tuning",
    CVPR 2024, arXiv 2312.10032. Deviations: questions around regions are worded by us;
    ``<region2>`` is the second mask, where the official code takes masks in the order
    in which texts name them.

    Args:
        ann_file (str): JSON list, or an object per line.
        form (str | None): ``conversation``: the first question lists all regions, and
            texts name them (``region1``); ``short``: likewise, and answers are to be
            short; ``inline``: ``<region1>`` in a question is that region, and a
            record with a mask that none says is damaged;
            ``description``: the record has ``description`` in place of turns, one text
            ``<region1>: ...`` per mask. None reads it from the file's name.
        templates (str | Sequence[str]): questions of ``description``, with
            ``<region>``.
        **kwargs: see :class:`LLaVADataset`.

    Raises:
        ValueError: for another form, or a name that tells none.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        form: str | None = None,
        templates: str | Sequence[str] = DESCRIPTIONS,
        **kwargs: Any,
    ) -> None:
        name = os.path.basename(ann_file)
        found = (FORMS[word] for word in FORMS if word in name)
        self.form = next(found, None) if form is None else form
        if self.form not in FORMS.values():
            raise ValueError(
                f"OspreyDataset: form={form!r} of '{name}', expected one of "
                f"{sorted(set(FORMS.values()))}; None asks for a file name with one of "
                f"{list(FORMS)}."
            )
        self.templates = TemplatePool(templates, ["region"])
        super().__init__(ann_file, **kwargs)

    def _index_options(self) -> tuple[str, ...]:
        return (self.form,)

    def _num_questions(self, record: Any) -> int:
        if self.form != "description":
            return super()._num_questions(record)
        return len(_descriptions_of(record))

    def _num_words(self, record: Any) -> int:
        if self.form != "description":
            return super()._num_words(record)
        texts = _descriptions_of(record)
        return sum(len(text.split()) for text in texts if isinstance(text, str))

    def _image_keys(self, record: Any) -> tuple:
        name = need(record, "file_name", str)
        return (_COCO_NAME.sub("", name),)

    def _conversation(
        self, record: Any, images: list, rng: np.random.Generator
    ) -> Conversation:
        if not isinstance(record, dict):  # said by the base
            return super()._conversation(record, images, rng)
        size = (need(record, "height", int), need(record, "width", int))
        regions = [_region(one, size) for one in need(record, "annotation", list)]
        if not regions:
            raise ValueError("'annotation' is empty, so there is no region.")
        turns = self._turns(record, len(regions), rng)
        turns[0] = dict(turns[0], value=f"{IMAGE_TAG}\n{_OPENING}{turns[0]['value']}")
        talk = super()._conversation(
            dict(record, conversations=turns, image=images), images, rng
        )
        for key in ("annotation", "description", "image"):
            talk.meta.pop(key, None)
        talk.turns[:] = [
            Turn(turn.role, _with_regions(turn, regions), turn.supervised)
            for turn in talk.turns
        ]
        parts = [part for turn in talk.turns for part in turn.parts]
        for number, region in enumerate(regions, 1):
            if not any(part is region for part in parts):
                raise ValueError(f"mask {number} is in no question.")
        return talk

    def _turns(self, record: dict, count: int, rng: np.random.Generator) -> list[dict]:
        """Return LLaVA's turns; ``<regionN>`` of a question stands for a region."""
        if self.form == "description":
            return self._descriptions(need(record, "description", list), count, rng)
        turns = [dict(turn) for turn in need(record, "conversations", list)]
        if len(turns) < 2:
            raise ValueError(f"'conversations' has {len(turns)} turns, no answer.")
        for turn in turns:
            text = need(turn, "value", str)
            asks = turn.get("from") == "human"
            if not (asks and self.form == "inline"):
                text = _PLACE.sub(r"region\1", text)
            turn["value"] = text + (_SHORT if asks and self.form == "short" else "")
        if self.form != "inline":
            listed = ", ".join(f"region{n} <region{n}>" for n in range(1, count + 1))
            turns[0]["value"] = f"It shows {listed}. {turns[0]['value']}"
        return turns

    def _descriptions(
        self, texts: list, count: int, rng: np.random.Generator
    ) -> list[dict]:
        if len(texts) != count:
            raise ValueError(f"'description' has {len(texts)} texts of {count} masks.")
        turns, draws = [], draws_of(rng)
        for number, text in enumerate(texts, 1):
            found = _DESCRIBED.match(text) if isinstance(text, str) else None
            if found is None:
                raise ValueError(f"'description': no '<region>: ...' in {text!r:.80}.")
            template = self.templates.draw(draws, region=Text(f"<region{number}>"))
            question = "".join(part.text for part in template)
            turns.append({"from": "human", "value": question})
            turns.append({"from": "gpt", "value": found[1].strip()})
        return turns


def _descriptions_of(record: Any) -> list:
    """Return the descriptions of a record, none of a damaged one."""
    texts = record.get("description") if isinstance(record, dict) else None
    return texts if isinstance(texts, list) else []


def _region(annotation: Any, size: tuple[int, int]) -> Region:
    """Return a mask as a region, its box around the pixels."""
    rings, rle = masks_of(need(annotation, "segmentation", (list, dict)), size)
    whole = polygons_to_rle(rings, size) if rings else rle
    if not whole or not rle_area(whole):
        raise ValueError("'segmentation' has no pixel in the image.")
    box = Boxes(np.array(rle_box(whole)), size)
    return Region(0, box, "mask", polygons=(rings,), rles=(rle,))


def _with_regions(turn: Turn, regions: list[Region]) -> tuple:
    """Return the parts of a turn with regions where its question names them."""
    if turn.role != "user":
        return turn.parts
    parts: list = []
    for part in turn.parts:
        if not isinstance(part, Text):
            parts.append(part)
            continue
        for number, piece in enumerate(_PLACE.split(part.text)):
            if number % 2 == 0:
                parts += [Text(piece)] if piece else []
                continue
            index = int(piece) - 1 if 0 < len(piece) < 9 else -1
            if not 0 <= index < len(regions):
                raise ValueError(
                    f"a question says <region{piece:.20}>, but the record has "
                    f"{len(regions)} mask(s)."
                )
            parts.append(regions[index])
    return tuple(parts)
