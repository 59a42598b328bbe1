"""Referring expressions: whether the box of an answer is right, by official rules.

Every system's evaluation reads answers, scales boxes and compares them in a way of
its own, so that "accuracy at 0.5" alone cannot be reproduced. :data:`PROTOCOLS` has
them by name.

Sources: haotian-liu/LLaVA (the padded square of its training data) with the reader of
EvolvingLMMs-Lab/lmms-eval: lmms_eval/tasks/refcoco/utils_rec.py; yuecao0119/MMFuser:
llava/eval/eval_grounding.py; shikras/shikra: mllm/dataset/single_image_dataset/rec.py;
apple/ml-ferret: ferret/eval/eval_refexp.py; microsoft/unilm:
kosmos-2/evaluation/refcoco/refexp_evaluate.py; QwenLM/Qwen-VL:
eval_mm/evaluate_grounding.py; SY-Xuan/Pink: pink/eval/eval_vg.py; OFA-Sys/OFA:
tasks/mm_tasks/refcoco.py; open-mmlab/mmpretrain: VisualGroundingMetric;
InternLM/xtuner: xtuner/tools/eval_refcoco.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmvlm.text.codecs import ferret, kosmos2, pink, qwen_vl, shikra

from .boxes import Box, box_iou, ofa_iou, pink_iou, whole_pixel_iou

#: Height and width of an image in pixels.
Size = tuple[int, int]
Rows = Iterable[Sequence[float]]

#: Least overlap of a right box.
MIN_IOU = 0.5
_NOWHERE = (0.0, 0.0, 0.0, 0.0)
#: What is farther away than this many units of any scale is no place in an image.
_FARTHEST = 1e9
_FOUR = r"\[" + r",\s*".join([r"(-?\d{1,9}(?:\.\d{1,99})?)"] * 4) + r"\]"
_NUMBER = re.compile(r"-?\d{1,99}(?:\.\d{1,99})?|-?\.\d{1,99}")
_PATCH = re.compile(r"<patch_index_(\d{1,9})>")
_BIN = re.compile(r"<bin_(\d{1,9})>")


@dataclass(frozen=True)
class ReferringProtocol:
    """How one evaluation takes the answers of its system.

    Args:
        read (Callable | None): from answer and expression to the rows of four numbers
            that the official parser finds, on the scale of the text; None: the
            regions that the model's codec read are judged.
        place (Callable): from a row and the image's size to a box in the frame in
            which boxes are compared.
        truth (Callable): from the true box in pixels to that frame.
        at_least (bool): whether an overlap of exactly one half is right.
        overlap (Callable): of two boxes.
        loose (Callable): like ``read`` without the expression, with good will.
    """

    read: Callable[[str, str], Rows] | None
    place: Callable[[Sequence[float], Size], Box]
    truth: Callable[[Box, Size], Box] = lambda box, size: box
    at_least: bool = False
    overlap: Callable[[Box, Box], float] = box_iou
    loose: Callable[[str], Rows] = lambda text: first_numbers(text)

    def is_right(self, overlap: float) -> bool:
        """Tell whether an overlap is enough."""
        return overlap >= MIN_IOU if self.at_least else overlap > MIN_IOU


@dataclass(frozen=True)
class BoxVerdict:
    """How an answer to one expression was judged.

    Args:
        boxes (tuple[Box, ...]): as the official parser reads them, in the protocol's
            frame; empty where it finds none.
        truth (Box): in the same frame.
        iou (float): of the first box and the truth.
        strict (bool): right by the official rule.
        lenient (bool): right when the first four numbers are taken for the box.
        mean (bool): whether the mean of all boxes would be right (Ferret reports it).
        best (bool): whether any of them is.
    """

    boxes: tuple[Box, ...]
    truth: Box
    iou: float
    strict: bool
    lenient: bool
    mean: bool
    best: bool

    @property
    def parsed(self) -> bool:
        """Whether the official parser finds a box."""
        return bool(self.boxes)

    @property
    def box(self) -> Box:
        """The first box, or four zeros."""
        return self.boxes[0] if self.boxes else _NOWHERE


def judge_box(
    protocol: str | ReferringProtocol,
    text: str,
    truth: Box,
    size: Size,
    *,
    expression: str = "",
    regions: Sequence[Box] = (),
) -> BoxVerdict:
    """Judge the answer to a referring expression; never raises for any text.

    Args:
        protocol (str | ReferringProtocol): name in :data:`PROTOCOLS`, or one.
        text (str): what the model said.
        truth (Sequence[float]): x1, y1, x2, y2 in pixels of the image.
        size (tuple[int, int]): height and width of the image.
        expression (str): what was asked for; Kosmos-2 demands it in the answer.
        regions (Sequence[Box]): boxes of ``pred_regions`` in pixels, for protocols
            that read no text.

    Raises:
        ValueError: for an unknown name.
    """
    rule = protocol_of(protocol) if isinstance(protocol, str) else protocol
    height, width = size
    goal = rule.truth(truth, (height, width))
    rows = regions if rule.read is None else rule.read(text, expression)
    boxes = tuple(rule.place(row, size) for row in rows if _is_place(row))
    overlaps = [rule.overlap(box, goal) for box in boxes] or [0.0]
    loose = () if rule.read is None else rule.loose(text)
    kept = [rule.place(row, size) for row in loose if _is_place(row)][:1]
    mean = np.mean(boxes, axis=0).tolist() if boxes else _NOWHERE
    strict = rule.is_right(overlaps[0])
    return BoxVerdict(
        boxes=boxes,
        truth=goal,
        iou=overlaps[0],
        strict=strict,
        lenient=strict or any(rule.is_right(rule.overlap(b, goal)) for b in kept),
        mean=rule.is_right(rule.overlap(mean, goal)),
        best=rule.is_right(max(overlaps)),
    )


def protocol_of(name: str) -> ReferringProtocol:
    """Return the protocol of that name; ValueError naming all for another."""
    if name not in PROTOCOLS:
        raise ValueError(
            f"protocol='{name}': expected one of {', '.join(sorted(PROTOCOLS))}."
        )
    return PROTOCOLS[name]


def _is_place(row: Sequence[float]) -> bool:
    """Whether four finite numbers can be somewhere in or near an image."""
    return len(row) == 4 and all(
        math.isfinite(value) and abs(value) < _FARTHEST for value in row
    )


# Readers ----------------------------------------------------------------------


def first_numbers(text: str) -> list[list[float]]:
    """Return the first four numbers of a text as one row; empty for fewer."""
    numbers = [float(match[0]) for match in _NUMBER.finditer(text)]
    return [numbers[:4]] if len(numbers) >= 4 else []


def first_group(text: str, expression: str = "") -> list[list[float]]:
    """Return the first ``[x1, y1, x2, y2]``; signs are read, inner spaces are not."""
    match = re.search(_FOUR, text)
    return [[float(value) for value in match.groups()]] if match else []


def first_nested_group(text: str, expression: str = "") -> list[list[float]]:
    """Return the first row of the first ``[[...]]``, read as JSON (MMFuser)."""
    match = re.search(r"\[\[.*?\]\]", text)
    try:
        rows = json.loads(match[0]) if match else []
    except (ValueError, RecursionError):
        return []
    row = rows[0] if rows else []
    numbers = isinstance(row, list) and all(
        isinstance(value, int | float) for value in row
    )
    try:
        return [[float(value) for value in row]] if numbers else []
    except OverflowError:  # an integer beyond all floats
        return []


def four_integers(text: str, expression: str = "") -> list[list[int]]:
    """Return all runs of digits when there are exactly four (xtuner)."""
    runs = re.findall(r"\d+", text)
    if len(runs) != 4 or max(map(len, runs)) > 9:
        return []
    return [[int(run) for run in runs]]


def _shikra(text: str, expression: str = "", brackets: str = "square") -> list:
    found = shikra.read_numbers(text, "box", brackets)
    return found[0].values if len(found) == 1 and len(found[0].values) == 1 else []


def _shikra_tokens(text: str, expression: str = "") -> list:
    found = shikra.read_tokens(text, "box")
    rows = [getattr(one, "values", ()) for one in found]
    return [[v * 1000 for v in rows[0][0]]] if [len(row) for row in rows] == [1] else []


def _ferret(text: str, expression: str = "") -> list[list[int]]:
    try:  # on an image of 1000 x 1000, pixels are the numbers of the text
        return ferret.eval_entities(text, (1000, 1000))[1]
    except (ValueError, IndexError, OverflowError):
        return []


def _kosmos2(text: str, expression: str) -> list:
    entities = kosmos2.clean_entities(text)[1]
    return [b for name, _, boxes in entities if name == expression for b in boxes]


def _any_patches(text: str) -> list:
    cells = [int(match[1]) for match in _PATCH.finditer(text)][:2]
    return [kosmos2.patches_to_box(*cells)] if len(cells) == 2 else []


def _qwen_vl(text: str, expression: str = "") -> list[list[float]]:
    box, status = qwen_vl.eval_box(text)
    return [box] if status == "ok" else []


def _pink(text: str, expression: str = "") -> list[list[float]]:
    row = pink.eval_box(text)
    return [] if row is None else [row]


def _ofa(text: str, expression: str = "") -> list[list[int]]:
    bins = [int(match[1]) for match in _BIN.finditer(text)]
    return [bins] if len(bins) == 4 and max(bins) < 1000 else []


# Frames -----------------------------------------------------------------------


def _by(scale: float) -> Callable[[Sequence[float], Size], Box]:
    """Return what places fractions of the image's sides in pixels."""

    def place(row: Sequence[float], size: Size) -> Box:
        height, width = size
        return [v / scale * s for v, s in zip(row, (width, height) * 2, strict=True)]

    return place


def _of_square(scale: float) -> Callable[[Sequence[float], Size], Box]:
    """Return what places fractions of the padded square in pixels of the image."""

    def place(row: Sequence[float], size: Size) -> Box:
        side, shift = max(size), _padding(size)
        return [v / scale * side - s for v, s in zip(row, shift, strict=True)]

    return place


def _padding(size: Size) -> tuple[int, int, int, int]:
    """Return how far the image lies from the padded square's corner."""
    height, width = size
    side = max(size)
    return ((side - width) // 2, (side - height) // 2) * 2


def _padded(box: Box, size: Size) -> Box:
    return [v + s for v, s in zip(box, _padding(size), strict=True)]


def _in_thousandths_of_square(box: Box, size: Size) -> Box:
    """Return Shikra's truth: rounded as its answers are, and held inside."""
    side = max(size)
    unit = [min(max(value / side, 0.0), 1.0) for value in _padded(box, size)]
    return [round(value, 3) * 1000 for value in unit]


def _whole_pixels(row: Sequence[float], size: Size) -> Box:
    height, width = size
    ratios = (width / 1000, height / 1000) * 2
    return [float(int(v * r)) for v, r in zip(row, ratios, strict=True)]


def _in_percent(box: Box, size: Size) -> Box:
    height, width = size
    return [int(100 * v / s) for v, s in zip(box, (width, height) * 2, strict=True)]


def _times(scale: float) -> Callable[[Sequence[float], Size], Box]:
    """Return what multiplies and looks at no image."""
    return lambda row, size: [value * scale for value in row]


_SHIKRA = dict(truth=_in_thousandths_of_square)
#: Evaluations by name; ``regions`` judges what the config's own codec read.
PROTOCOLS: dict[str, ReferringProtocol] = {
    "regions": ReferringProtocol(None, _times(1), at_least=True),
    "mmpretrain": ReferringProtocol(None, _times(1), at_least=True),
    "llava": ReferringProtocol(first_group, _of_square(1)),
    "mmfuser": ReferringProtocol(first_nested_group, _by(999)),
    "mmfuser_pad": ReferringProtocol(first_nested_group, _of_square(999)),
    "shikra": ReferringProtocol(_shikra, _times(1000), **_SHIKRA),
    "shikra_round": ReferringProtocol(
        lambda text, _: _shikra(text, brackets="round"), _times(1000), **_SHIKRA
    ),
    "shikra_tokens": ReferringProtocol(_shikra_tokens, _times(1), **_SHIKRA),
    "ferret": ReferringProtocol(_ferret, _whole_pixels, at_least=True),
    "kosmos2": ReferringProtocol(_kosmos2, _by(1), at_least=True, loose=_any_patches),
    "qwen_vl": ReferringProtocol(_qwen_vl, _by(999), at_least=True),
    "pink": ReferringProtocol(_pink, _by(1), overlap=pink_iou),
    "pink_pad": ReferringProtocol(
        _pink, lambda row, size: [v * max(size) for v in row], _padded, overlap=pink_iou
    ),
    "ofa": ReferringProtocol(_ofa, _by(999), at_least=True, overlap=ofa_iou),
    "xtuner": ReferringProtocol(
        four_integers, _times(1), _in_percent, overlap=whole_pixel_iou
    ),
}
