"""Reader of Ferret's GRIT: conversations with places for boxes and points."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from mmvlm.datasets.io.annotation_files import Box, is_finite_number, need
from mmvlm.registry import DATASETS
from mmvlm.structures import Boxes, Conversation, Region, Text, Turn
from mmvlm.structures.masks import check_rle, rle_to_mask

from .llava import LLaVADataset

POINTS = ("uniform", "center", "gaussian")
#: What a file name says about its records, looked for in this order.
SOURCES = (
    *("vg_object", "vg_yesno_object", "vg_attribute", "vg_relation", "vg_region"),
    *("git_instruction", "llava_instruct", "grounded_llava_boxes", "refexp"),
    *("flickr", "objects365", "cc3m_595k"),
)
_PLACE = re.compile(r"<bbox_location(\d+)>")
#: Spread of a point around the centre of its box, of the box's side.
_SPREAD = 0.15
#: Pixels of a mask that are looked at for the one nearest to a place.
_MAX_PIXELS = 1000


@DATASETS.register_module()
class FerretGRITDataset(LLaVADataset):
    r"""Ferret's instruction data: LLaVA's records with boxes beside them.

    A record is one of LLaVA's with four fields more::

        {"id", "image", "image_w": 640, "image_h": 480,
         "conversations": [{"from": "human", "value": "<image>\nWhat is
             <bbox_location0>?"}, {"from": "gpt", "value": "A dog."}],
         "box_x1y1x2y2": [[[10, 20, 30, 40]], []],
         "masks": [[{"size": [480, 640], "counts": "..."}], []]}

    ``box_x1y1x2y2`` has a list of pixel boxes per turn, ``<bbox_location0>`` being the
    first of its turn; ``masks`` (optional, run lengths) has one per box. Each
    placeholder becomes a region. Records without boxes are plain conversations.

    Boxes are brought into 0 .. width - 1 and 0 .. height - 1, as Ferret does: its far
    edges lie inside. In each question with boxes it is drawn whether they are shown
    as boxes or as points; answers say boxes. A point keeps what it lies in as mask or
    polygon, for encoders of regions. ``data_multiple`` of Ferret's scripts is a
    weight of the mixture.

    Paper: You et al., "Ferret", ICLR 2024, arXiv 2310.07704.

    Args:
        ann_file (str): JSON list, or an object per line.
        point_share (float): 0-1, of questions whose boxes are shown as points.
        mask_share (float): 0-1, of questions whose regions keep what they lie in; the
            others are bare boxes, or points whose whole window counts.
        point (str): where a point lies: ``uniform``: a pixel of the mask;
            ``center``: the one nearest to the box's centre (of at most 1000);
            ``gaussian``: the one nearest to a place drawn around the centre.
        use_masks (bool): points come from masks; a record without them gets
            ``gaussian`` in the box. If false: ``center`` or ``gaussian`` of the box.
        refer_previous_point (bool): a box that the question showed as a point is that
            point in the answer too.
        source (str | None): name of the part of GRIT, in ``meta["source"]``; None
            reads it from the file name (``vg_object``, ``refexp``, ...).
        **kwargs: see :class:`LLaVADataset`.

    Raises:
        ValueError: for a share outside 0-1, an unknown ``point``, or ``uniform``
            without masks.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        point_share: float = 0.5,
        mask_share: float = 1.0,
        point: str = "center",
        use_masks: bool = True,
        refer_previous_point: bool = False,
        source: str | None = None,
        **kwargs: Any,
    ) -> None:
        for key, share in (("point_share", point_share), ("mask_share", mask_share)):
            if not 0 <= share <= 1:
                raise ValueError(f"{key}={share}: expected 0 to 1.")
        if point not in POINTS or (point == "uniform" and not use_masks):
            raise ValueError(
                f"point={point!r}, use_masks={use_masks}: expected one of {POINTS}; "
                "'uniform' needs masks."
            )
        self.point_share, self.mask_share = point_share, mask_share
        self.point = point
        self.use_masks = use_masks
        self.refer_previous_point = refer_previous_point
        name = os.path.basename(ann_file)
        found = (one for one in SOURCES if one in name)
        self.source = source if source is not None else next(found, None)
        super().__init__(ann_file, **kwargs)

    def _conversation(
        self, record: Any, images: list, rng: np.random.Generator
    ) -> Conversation:
        talk = super()._conversation(record, images, rng)
        talk.meta["source"] = self.source
        boxes = talk.meta.pop("box_x1y1x2y2", None)
        masks = talk.meta.pop("masks", None)
        if boxes is None:
            return talk
        size = (need(record, "image_h", int), need(record, "image_w", int))
        if min(size) < 1:
            raise ValueError(f"'image_h' and 'image_w' must be positive, got {size}.")
        first = talk.meta.get("dropped_turns", 0)
        count = len(talk.turns) + first
        boxes = _per_turn(boxes, count, "box_x1y1x2y2")[first:]
        masks = (
            [None] * len(boxes)
            if masks is None
            else (_per_turn(masks, count, "masks")[first:])
        )
        shown: dict[Box, Region] = {}
        for number, turn in enumerate(talk.turns):
            asks = turn.role == "user"
            if asks:
                shown = {}
            regions = self._regions(boxes[number], masks[number], size)
            if asks and regions and rng.random() < self.point_share:
                for index, region in enumerate(regions):
                    key = tuple(region.boxes.xyxy[0].tolist())
                    if key not in shown or not self.refer_previous_point:
                        shown[key] = self._as_point(region, rng)
                    regions[index] = shown[key]
            elif self.refer_previous_point:
                keys = [tuple(region.boxes.xyxy[0].tolist()) for region in regions]
                regions = [
                    shown.get(key, region)
                    for key, region in zip(keys, regions, strict=True)
                ]
            # Without a share nothing is drawn: a seed then gives what it always gave.
            if asks and self.mask_share < 1 and rng.random() >= self.mask_share:
                regions = [replace(one, rles=(), polygons=()) for one in regions]
            where = f"turn {number + first}"
            talk.turns[number] = _with_regions(turn, regions, where)
        return talk

    @staticmethod
    def _regions(boxes: list, masks: list | None, size: tuple[int, int]) -> list:
        """Return the regions of a turn, each as a box with its mask."""
        if masks is not None and len(masks) != len(boxes):
            raise ValueError(
                f"'masks' has {len(masks)} masks in a turn of {len(boxes)} boxes."
            )
        regions = []
        for index, value in enumerate(boxes):
            box = Boxes(np.array(_regulated(value, size)), size)
            mask = None if masks is None else masks[index]
            rles = () if mask is None else (check_rle(mask, size),)
            regions.append(Region(0, box, "box", rles=rles))
        return regions

    def _as_point(self, region: Region, rng: np.random.Generator) -> Region:
        """Return a point of a region, and what it lies in."""
        size = region.boxes.size
        x1, y1, x2, y2 = region.boxes.xyxy[0].tolist()
        ring = (x1, y1, x2, y1, x2, y2, x1, y2)
        if self.use_masks and region.rles:
            x, y = self._in_mask(region, rng)
        elif self.use_masks or self.point == "gaussian":
            x, y = _around_centre((x1, y1, x2, y2), rng)
        else:
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
        return Region(
            0,
            Boxes(np.array([x, y, x, y]), size),
            "point",
            polygons=() if region.rles else ((ring,),),
            rles=region.rles,
        )

    def _in_mask(self, region: Region, rng: np.random.Generator) -> tuple[int, int]:
        pixels = np.argwhere(rle_to_mask(region.rles[0]))[:, ::-1]
        if not len(pixels):
            raise ValueError("'masks' holds an empty mask, which has no point.")
        if self.point == "uniform":
            return tuple(pixels[int(rng.integers(len(pixels)))].tolist())
        x1, y1, x2, y2 = region.boxes.xyxy[0].tolist()
        anchor = (int((x1 + x2) / 2), int((y1 + y2) / 2))
        if self.point == "gaussian":
            anchor = _around_centre((x1, y1, x2, y2), rng)
        count = min(_MAX_PIXELS, len(pixels))
        looked_at = pixels[rng.permutation(len(pixels))[:count]]
        distance = ((looked_at - anchor) ** 2).sum(1)
        return tuple(looked_at[int(distance.argmin())].tolist())


def _per_turn(value: Any, count: int, field: str) -> list:
    """Return a field that has a list per turn."""
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(isinstance(items, list) for items in value)
    ):
        raise ValueError(
            f"'{field}' must have a list for each of the {count} turns, got "
            f"{value!r:.100}."
        )
    return value


def _regulated(value: Any, size: tuple[int, int]) -> Box:
    """Return a box inside 0 .. width - 1, 0 .. height - 1."""
    if (
        not isinstance(value, list)
        or len(value) != 4
        or not all(map(is_finite_number, value))
    ):
        raise ValueError(
            f"'box_x1y1x2y2' holds no box of four finite numbers: {value!r:.80}."
        )
    height, width = size
    x1, y1, x2, y2 = map(float, value)
    outside = x1 >= width or y1 >= height or x2 < 0 or y2 < 0
    if x2 < x1 or y2 < y1 or outside:
        reason = "lies outside of its image" if outside else "ends before it begins"
        raise ValueError(f"box {value} {reason} of {width} x {height} pixels.")
    x1, x2 = (min(max(x, 0.0), width - 1.0) for x in (x1, x2))
    y1, y2 = (min(max(y, 0.0), height - 1.0) for y in (y1, y2))
    return x1, y1, x2, y2


def _around_centre(box: Box, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a place in a box: normal around its centre, again when outside."""
    x1, y1, x2, y2 = box
    while True:
        x = rng.normal((x1 + x2) / 2, _SPREAD * (x2 - x1))
        y = rng.normal((y1 + y2) / 2, _SPREAD * (y2 - y1))
        if x1 <= x <= x2 and y1 <= y <= y2:
            return x, y


def _with_regions(turn: Turn, regions: list[Region], where: str) -> Turn:
    """Return a turn with regions in the place of their placeholders."""
    named: set[int] = set()
    parts = [
        piece
        for part in turn.parts
        for piece in (
            _cut(part, regions, named, where) if isinstance(part, Text) else [part]
        )
    ]
    missing = set(range(len(regions))) - named
    if missing:
        raise ValueError(
            f"{where} has {len(regions)} boxes, but its text does not say "
            f"<bbox_location{min(missing)}>."
        )
    return Turn(turn.role, tuple(parts), turn.supervised)


def _cut(
    part: Text, regions: list[Region], named: set[int], where: str
) -> Iterator[Text | Region]:
    for number, piece in enumerate(_PLACE.split(part.text)):
        if number % 2 == 0:
            if piece:
                yield Text(piece)
            continue
        index = int(piece) if len(piece) < 9 else len(regions)
        if index >= len(regions):
            raise ValueError(
                f"{where} says <bbox_location{piece:.20}>, but has {len(regions)} "
                "boxes."
            )
        named.add(index)
        yield regions[index]
